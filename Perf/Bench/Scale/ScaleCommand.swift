import ArgumentParser
import Foundation

/// Tables of up to a million SAs and flows; what `Perf/scale` runs.
struct ScaleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Measures tables of many SAs and flows.",
    discussion: """
      memory: bytes an SA and a flow. lookup: ns a lookup, by bursts, in random order. path: ns a packet of a worker's \
      whole path over so many SAs and flows in random order, from a generator on another core. churn: SAs installed and \
      deleted while workers carry traffic of 1,000 other SAs. One JSON object.
      """)

  enum Part: String, ExpressibleByArgument { case memory, lookup, path, churn }

  @Argument(help: "memory, lookup, path, churn.") var part: Part
  @Option(name: .customLong("entries"), help: "SAs, and flows.") var sas = 1000
  @Option(help: "out or in.") var direction = "out"
  @Option(help: "aes-128-gcm, aes-256-gcm, aes-128-cbc-sha256, chacha20-poly1305.")
  var algorithm: Algorithm = .aes128gcm
  @Option(help: "openssl, ipsec-mb, native, auto.") var engine = "auto"
  @Option(help: "Cores that poll; several: with commas. Default: the last.") var cores: String?
  @Option(help: "path: the generator's core.") var generatorCore = 0
  @Option(help: "path: entries of the flow cache; default: twice as many as flows.") var flows: Int?
  @Flag(help: "path: load from a capture, 1,000 SAs at most: needs no generator's core.") var replay = false
  @Option(name: .customLong("readings"), help: "path: samples of 40 ms.") var samples = 25
  @Option(help: "churn: SAs a second; 0: as many as go.") var rate = 100_000
  @Option(help: "churn: SAs that stand beside.") var standing = 0
  @Option(help: "Key schedules at most; default: one for each SA.") var schedules: Int?

  func run() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let result: any Encodable =
      switch part {
      case .memory: try ScaleMemory.measure(sas: sas, algorithm: algorithm, engine: engine)
      case .lookup: try ScaleLookup.measure(entries: sas)
      case .path: try ScalePath.measure(settings)
      case .churn: try ScaleChurn.measure(settings, rate: rate, standing: standing)
      }
    print(String(decoding: try encoder.encode(result), as: UTF8.self))
  }

  private var settings: ScaleSettings {
    let last = [ProcessInfo.processInfo.activeProcessorCount - 1]
    return ScaleSettings(
      sas: sas, isInbound: direction == "in", algorithm: algorithm, engine: engine,
      cores: cores.map { $0.split(separator: ",").compactMap { Int($0) } } ?? last, generatorCore: generatorCore,
      flows: flows, isReplayed: replay, samples: samples, schedules: schedules)
  }
}

extension Algorithm: ExpressibleByArgument {}

/// What a rig of `path` and `churn` is made of.
struct ScaleSettings {
  var sas: Int
  var isInbound: Bool
  var algorithm: Algorithm
  var engine: String
  var cores: [Int]
  var generatorCore: Int
  var flows: Int?
  var isReplayed: Bool
  var samples: Int
  var schedules: Int?
}
