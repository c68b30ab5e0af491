import ArgumentParser
import DPDK
import Foundation

@main
struct GWBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gwbench",
    abstract: "Runs the gateway's data path on one core over a load of its own and prints what a packet costs.",
    discussion: """
      One net_pcap port replays a capture for ever, the worker protects or opens every packet, one net_null port \
      swallows what comes out. Each case is a process of its own. Hugepages are used if 128 or more are free.
      """,
    subcommands: [LatencyCommand.self, ScaleCommand.self])

  @Option(help: "aes-128-gcm, aes-256-gcm, aes-128-cbc-sha256, chacha20-poly1305, forward; several: with commas.")
  var algorithms = "forward,aes-128-gcm"
  @Option(help: "out, in, or both.") var directions = "out,in"
  @Option(help: "Bytes of the inner IP packet, or imix.") var sizes = "64,256,512,1024,1424,imix"
  @Option(help: "SAs, a different one each packet.") var sas = "1"
  @Option(help: "openssl, ipsec-mb, native, auto.") var engines = "auto"
  @Option(help: "The core to poll on; default: the last.") var core: Int?
  @Option(help: "Cores of further workers, which without a queue open bursts of the first; several: with commas.")
  var helpers = ""
  @Option(help: "Receive queues, each with the whole load and a worker.") var queues = 1
  @Flag(help: "Read every packet that leaves: its order, and that it comes once. Of one SA.") var check = false
  @Option(help: "Packets taken at once.") var burst = 32
  @Option(help: "Samples.") var samples = 25
  @Option(help: "Their length: short ones find the quiet moments of a busy machine.") var milliseconds = 40
  @Flag(help: "JSON, one object a line.") var json = false
  @Flag(help: "Cycles by stage too.") var stages = false
  @Flag(help: "The engine alone too.") var floor = false
  @Option(help: "Only write the load of the first case to this file.") var writeLoad: String?
  @Option(help: "Instead: what a look-up among so many policies costs, several: with commas (1,1000,10000,100000).")
  var policies: String?
  @Flag(help: .hidden) var single = false

  func run() throws {
    if let policies { return try PolicyMiss.run(policies.split(separator: ",").compactMap { Int($0) }, json: json) }
    let cases = try self.cases()
    if let writeLoad {
      guard let first = cases.first else { return }
      try Rig.writeLoad(first, to: writeLoad)
    } else if single, let only = cases.first {
      var outcome = try Rig(only).run()
      if floor { outcome.engineAlone = try EngineAlone.measure(only) }
      print(String(decoding: try JSONEncoder().encode(outcome), as: UTF8.self))
    } else {
      try runAll(cases)
    }
  }

  private func cases() throws -> [Case] {
    func list(_ text: String) -> [String] { text.split(separator: ",").map(String.init) }
    let core = core ?? EALConfiguration.defaultWorkers().last ?? 0
    var cases: [Case] = []
    for name in list(algorithms) {
      guard let algorithm = Algorithm(rawValue: name) else { throw ValidationError("no algorithm \(name)") }
      for direction in algorithm == .forward ? ["out"] : list(directions) {
        guard direction == "out" || direction == "in" else { throw ValidationError("no direction \(direction)") }
        for engine in algorithm == .forward ? ["openssl"] : list(engines) {
          for count in list(sas) {
            for size in list(sizes) {
              guard let size = PacketSize(size) else { throw ValidationError("size \(size): 28 to 1438, or imix") }
              guard let sas = Int(count), (1...16_000).contains(sas) else { throw ValidationError("\(count) SAs") }
              cases.append(
                Case(
                  algorithm: algorithm, isInbound: direction == "in", size: size, sas: sas, engine: engine, core: core,
                  helpers: list(helpers).compactMap { Int($0) }, queues: queues, isChecked: check, burst: burst,
                  samples: samples, milliseconds: milliseconds))
            }
          }
        }
      }
    }
    return cases
  }

  // MARK: All cases

  private func runAll(_ cases: [Case]) throws {
    let table = ResultTable(hasStages: stages, hasFloor: floor)
    if !json { print(table.header) }
    for (index, one) in cases.enumerated() {
      let name = "\(one.algorithm.rawValue) \(one.isInbound ? "in" : "out") \(one.size.name)"
      FileHandle.standardError.write(Data("[\(index + 1)/\(cases.count)] \(name)   \r".utf8))
      let (outcome, text) = try runApart(one)
      print(json ? text : table.row(outcome))
      fflush(nil)
      guard outcome.check?.isGood ?? true else { throw ExitCode.failure }
    }
  }

  /// In a process of its own: EAL starts once in a process, and every case finds the same machine.
  private func runApart(_ one: Case) throws -> (Outcome, String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = [
      "--single", "--algorithms", one.algorithm.rawValue, "--directions", one.isInbound ? "in" : "out",
      "--sizes", one.size.name, "--sas", "\(one.sas)", "--engines", one.engine, "--core", "\(one.core)",
      "--burst", "\(one.burst)", "--samples", "\(one.samples)",
      "--milliseconds", "\(one.milliseconds)",
    ]
    if floor { process.arguments?.append("--floor") }
    if !helpers.isEmpty { process.arguments? += ["--helpers", helpers, "--queues", "\(queues)"] }
    if check { process.arguments?.append("--check") }
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0, let line = output.split(separator: UInt8(ascii: "\n")).last else {
      throw BenchError.failed("the case \(one.algorithm.rawValue) \(one.size.name) failed")
    }
    return (try JSONDecoder().decode(Outcome.self, from: Data(line)), String(decoding: line, as: UTF8.self))
  }
}

/// The lines that people read.
struct ResultTable {
  let hasStages: Bool
  let hasFloor: Bool
  static let stageNames = ["receive", "inbound", "policy", "outbound", "crypto", "transmit", "total"]

  private func cell(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  private func number(_ value: Double) -> String { cell(String(format: "%.1f", value), 9) }

  var header: String {
    var line = "algorithm           dir   size    SAs   engine   ns min   ns med   cycles"
    if hasFloor { line += "   engine" }
    if hasStages { line += "  | cycles:" + Self.stageNames.map { cell($0, 9) }.joined() }
    return line
  }

  func row(_ outcome: Outcome) -> String {
    var line = outcome.algorithm.padding(toLength: 19, withPad: " ", startingAt: 0)
    line += cell(outcome.direction, 4) + cell(outcome.size, 7) + cell("\(outcome.sas)", 7) + cell(outcome.engine, 9)
    line += number(outcome.minimum) + number(outcome.median) + number(outcome.cycles)
    if hasFloor { line += number(outcome.engineAlone) }
    if outcome.helpers > 0 { line += "  \(outcome.queues) queues, \(outcome.sharedBursts) bursts handed" }
    if let check = outcome.check {
      line += "  \(check.packets) read, \(check.disorders) out of order, \(check.duplicates) twice"
      line += ", \(check.missing) missing"
    }
    if hasStages {
      line += "  |        " + Self.stageNames.map { number(outcome.stages[$0] ?? 0) }.joined()
    }
    return line
  }
}
