import ArgumentParser
import ControlAPI
import Foundation
import IKEControl
import IPsec

struct IKEReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Connections, IKE SAs and child SAs: transforms, lifetimes left, NAT, tasks.",
    discussion: "USR1 to gwd writes this and the gateway's own state to gwd.report in its run directory.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Flag(name: .long, help: "Print JSON.") var json = false

  func run() throws {
    try Self.print(global, daemon, json: json) { $0.text }
  }

  static func print(
    _ global: GlobalOptions, _ daemon: KeyDaemonOptions, json: Bool, _ text: (IKEReport) -> String
  ) throws {
    let report = try get(global, daemon)
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      encoder.keyEncodingStrategy = .convertToSnakeCase
      return Terminal.standard.write(String(decoding: try encoder.encode(report), as: UTF8.self) + "\n")
    }
    Terminal.standard.write(text(report))
  }

  static func get(_ global: GlobalOptions, _ daemon: KeyDaemonOptions) throws -> IKEReport {
    var report: IKEReport?
    try daemon.with(global, charon: { report = try IKEReport(charon: $0) }, iked: { report = try IKEReport(iked: $0) })
    guard var report else { throw Failure(.failure, ["no report"]) }
    // iked tells neither transforms nor counters: the gateway knows them.
    if report.daemon.name == "iked", let records = try? global.client.securityAssociations() {
      report.complete(from: records)
    }
    return report
  }
}

struct IKESAs: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sas", abstract: "The IKE SAs and child SAs of the report alone.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Flag(name: .long, help: "Print JSON.") var json = false

  func run() throws {
    try IKEReportCommand.print(global, daemon, json: json) { report in
      var report = report
      report.connections = []
      return report.text.components(separatedBy: "\n").drop { !$0.hasPrefix("IKE SAs") }.joined(separator: "\n")
    }
  }
}

extension IKEReport {
  mutating func complete(from records: [SARecord]) {
    func record(_ spi: String?, _ destination: String?) -> SARecord? {
      guard let spi = spi.flatMap({ UInt32($0, radix: 16) }) else { return nil }
      return records.first { $0.parameters.spi == spi && "\($0.parameters.destination)" == destination }
    }
    for index in sas.indices {
      for number in sas[index].children.indices {
        let child = sas[index].children[number]
        if let record = record(child.spiIn, sas[index].localHost) {
          sas[index].children[number].completeInbound(record)
        }
        if let record = record(child.spiOut, sas[index].remoteHost) {
          sas[index].children[number].packetsOut = record.counters.outputPackets
          sas[index].children[number].bytesOut = record.counters.outputBytes
        }
      }
    }
  }
}

extension IKEReport.ChildSA {
  fileprivate mutating func completeInbound(_ record: SARecord) {
    let parameters = record.parameters
    packetsIn = record.counters.inputPackets
    bytesIn = record.counters.inputBytes
    mode = parameters.mode.apiName
    isInUDP = parameters.encapsulation != nil
    isESN = parameters.extendedSequenceNumbers
    let key = parameters.transform.encryptionKey.count * 8
    transform = [
      "\(parameters.transform.encryption.apiName)-\(key)", parameters.transform.authentication?.apiName,
    ].compactMap(\.self).joined(separator: " ")
  }
}
