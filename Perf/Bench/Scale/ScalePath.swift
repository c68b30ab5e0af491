import CDPDK
import DPDK
import DataPlane
import Foundation

/// What a packet costs a worker over many SAs and flows, in random order.
struct ScalePath: Encodable {
  var sas: Int
  var direction: String
  var workers: Int
  var engine: String
  var flows: Int
  /// From a capture, a queue for each worker, in place of the generator.
  var isReplayed: Bool
  /// ns a packet in a worker's rounds with a full burst of 32: the lowest median of a sample, and the median of them.
  var minimum: Double
  var median: Double
  /// Packets a second of all workers, the best sample.
  var rate: Double
  var drops: String

  static func measure(_ settings: ScaleSettings) throws -> ScalePath {
    let rig = try ScaleRig(settings)
    return settings.isReplayed ? try replayed(rig) : try generated(rig)
  }

  private static func generated(_ rig: ScaleRig) throws -> ScalePath {
    try rig.run(device: "net_ring0", before: { _ in }) { dataPlane in
      let frames = try rig.frames(length: 64, to: dataPlane.ports[0].macAddress)
      let generator = Generator(
        frames, port: dataPlane.ports[0], pool: dataPlane.bufferPools[0], core: rig.settings.generatorCore)
      generator.start()
      defer { generator.stop() }
      return try sample(rig, dataPlane)
    }
  }

  /// The same capture on a queue of each worker.
  private static func replayed(_ rig: ScaleRig) throws -> ScalePath {
    let path = NSTemporaryDirectory() + "/gwbench-\(getpid()).pcap"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try rig.writeCapture(to: path, length: 64)
    return try rig.run(device: rig.replayDevice(path), before: { _ in }) { try sample(rig, $0) }
  }

  private static func sample(_ rig: ScaleRig, _ dataPlane: DataPlane) throws -> ScalePath {
    let settings = rig.settings
    // Every flow is decided once, and the machine comes to rest.
    rig.control(dataPlane, milliseconds: 300 + settings.sas / 1000)
    dataPlane.shared.pointee.timing.store(true, ordering: .relaxed)
    var costs: [Double] = []
    var rate = 0.0
    var before = Reading(dataPlane)
    for _ in 0..<settings.samples {
      rig.control(dataPlane, milliseconds: 40)
      let now = Reading(dataPlane)
      let packets = Double(now.packets - before.packets)
      if let median = now.rounds.median(since: before.rounds) { costs.append(median / Double(Self.burst)) }
      rate = max(rate, packets / Double(now.time - before.time) * 1e9)
      before = now
    }
    guard before.sent > 0, !costs.isEmpty, Double(before.sent) >= 0.99 * Double(before.packets) else {
      throw BenchError.failed("packets are lost: \(dataPlane.dropsText)")
    }
    costs.sort()
    return ScalePath(
      sas: settings.sas, direction: settings.isInbound ? "in" : "out", workers: settings.cores.count,
      engine: settings.engine, flows: settings.flows ?? max(16_384, 2 * settings.sas),
      isReplayed: settings.isReplayed, minimum: costs[0], median: costs[costs.count / 2], rate: rate,
      drops: dataPlane.dropsText)
  }

  private static let burst = 32

  /// The sums over all workers at one moment.
  private struct Reading {
    let time = DispatchTime.now().uptimeNanoseconds
    var packets: UInt64 = 0
    var sent: UInt64 = 0
    let rounds: RoundReading

    init(_ dataPlane: DataPlane) {
      rounds = RoundReading(dataPlane)
      for index in 0..<dataPlane.workerCount {
        let one = dataPlane.workerStatistics(index)
        packets += one.packets
        sent += one.sentPackets
      }
    }
  }
}

extension ScaleRig {
  /// For `replayDevice`: the frames of at most 1,000 SAs.
  func writeCapture(to path: String, length: Int) throws {
    let frames = try frames(length: length, to: Plan.mac)
    let packets = (0..<1000).map { index in
      Array(
        UnsafeRawBufferPointer(start: frames.base + index % frames.count * frames.stride, count: frames.length)
          .dropFirst(14))
    }
    try Load.write(packets, to: path)
  }

  func replayDevice(_ path: String) -> String {
    "net_pcap0," + settings.cores.map { _ in "rx_pcap=\(path)," }.joined() + "infinite_rx=1"
  }
}
