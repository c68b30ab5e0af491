import DPDK
import DataPlane
import Engines
import Foundation
import IPsec
import Routing
import Wire

/// Tables of many SAs, and the data path that uses them. One to a process.
final class ScaleRig {
  let settings: ScaleSettings
  let plan: ScalePlan
  let quiescence: QuiescentState
  let database: SecurityDatabase
  private let routing: RoutingTable
  private let limits: DatabaseLimits
  private let counters = LateCounters()

  /// - Parameter more: SAs that come later.
  init(_ settings: ScaleSettings, more: Int = 0) throws {
    self.settings = settings
    plan = ScalePlan(isInbound: settings.isInbound, algorithm: settings.algorithm)
    quiescence = QuiescentState(readers: settings.cores.count)
    let most = settings.sas + more + 16
    limits = DatabaseLimits(sas: most, policies: settings.sas + 16, schedules: settings.schedules ?? most)
    routing = RoutingTable(reclaimer: quiescence)
    database = SecurityDatabase(
      engine: try Rig.engine(settings.engine, for: settings.algorithm), workers: settings.cores.count, limits: limits,
      reclaimer: quiescence, counters: counters, now: 1)
    for i in 0..<settings.sas {
      try database.add(plan.sa(i), origin: 0)
      _ = try database.add(plan.policy(i), replacing: false, origin: 0)
    }
  }

  /// Frames as they come to the gateway's first port, which has the address `mac`: one a SA.
  func frames(length: Int, to mac: MACAddress) throws -> Frames {
    // The far gateway, one SA at a time.
    let far = SecurityDatabase(
      engine: OpenSSLEngine(), workers: 1, limits: DatabaseLimits(sas: 64, policies: 64),
      reclaimer: ImmediateReclaimer(),
      now: 1)
    var frames: Frames?
    for i in 0..<settings.sas {
      var packet = plan.packet(i, length: length)
      if settings.isInbound {
        let parameters = plan.sa(i, isFar: true)
        try far.add(parameters, origin: 0)
        let id = parameters.identifier
        let sa = far.sad.lookup(spi: id.spi, destination: id.destination, saProtocol: ESP.ipProtocol)!
        packet = Load.seal(packet, sa, sequence: 1, random: (UInt64(i), 7))
        try far.delete(id, origin: 0)
      }
      if frames == nil { frames = Frames(count: settings.sas, length: packet.count + 14) }
      frames?.set(i, mac.bytes + Plan.peerMAC.bytes + [0x08, 0x00] + packet)
    }
    return frames!
  }

  /// Runs `body` with workers running between `device` and a port that swallows.
  func run<Result>(device: String, before: (DataPlane) throws -> Void, body: (DataPlane) throws -> Result) throws
    -> Result
  {
    let eal = try EAL(.bench(workers: settings.cores))
    defer { eal.stop() }
    var data = DataPlaneConfiguration(
      ports: [
        DataPlaneConfiguration.Port(name: "in", device: device, hasHost: false),
        DataPlaneConfiguration.Port(name: "out", device: "net_null0,no-rx=1", hasHost: false),
      ], counterSlots: limits.counterSlots)
    data.flows = settings.flows ?? max(16_384, 2 * settings.sas)
    let dataPlane = try DataPlane(
      data, eal: eal, quiescence: quiescence,
      tables: DataPlaneTables(database, routing))
    counters.source = dataPlane
    try routing.setUp(dataPlane, prefixes: ScalePlan.routes)
    try before(dataPlane)
    database.onKeyed = { [unowned dataPlane] in dataPlane.host.releaseKeyed(serial: $0) }
    try dataPlane.start()
    defer { dataPlane.stop() }
    return try body(dataPlane)
  }

  /// The control thread's share of the work for some milliseconds.
  func control(_ dataPlane: DataPlane, milliseconds: Int) {
    guard settings.schedules != nil else {
      usleep(UInt32(milliseconds * 1000))
      return
    }
    for _ in 0..<milliseconds {
      dataPlane.drainEvents { event in
        if event.kind == .unkeyed { database.keysNeeded(serial: event.number) }
      }
      quiescence.reclaim()
      usleep(1000)
    }
  }
}

/// Frames of one length side by side.
final class Frames: @unchecked Sendable {
  let count: Int
  let length: Int
  let stride: Int
  let base: UnsafeMutableRawPointer

  init(count: Int, length: Int) {
    self.count = count
    self.length = length
    stride = (length + 63) & ~63
    base = .allocate(byteCount: stride * count, alignment: 64)
  }

  deinit { base.deallocate() }

  func set(_ index: Int, _ bytes: [UInt8]) {
    precondition(bytes.count == length)
    (base + index * stride).copyMemory(from: bytes, byteCount: length)
  }
}
