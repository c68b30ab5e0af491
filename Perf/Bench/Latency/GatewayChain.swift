import CDPDK
import DPDK
import DataPlane
import Engines
import Foundation
import IPsec
import Routing
import Wire

/// Gateway A, which seals, and gateway B, which opens, in one process: rings are the wires between generator, A, B and
/// generator. With two cores both gateways share the second, a round each in turn.
///
///     generator ─entry→ [lan] A [wan] ─middle→ [wan] B [lan] ─exit→ generator
final class GatewayChain {
  struct Settings {
    var algorithm: Algorithm
    var engine: String
    /// The generator's, A's and B's.
    var cores: [Int]
    /// Packets that a wire holds, as a NIC's queue of descriptors does.
    var queue: Int
  }

  let eal: EAL
  let pool: Mempool
  let entry: MbufRing
  let exit: MbufRing
  /// From the generator to itself.
  let short: MbufRing
  private let middle: MbufRing
  /// For the directions that nothing takes.
  private var unused: [MbufRing] = []
  private let gateways: [Gateway]
  private let frames: UnsafeMutablePointer<UnsafeRawBufferPointer>
  private let frameCount: Int

  init(_ settings: Settings, size: PacketSize) throws {
    let isShared = settings.cores[1] == settings.cores[2]
    eal = try EAL(.bench(workers: isShared ? Array(settings.cores[0..<2]) : settings.cores, hugepages: 160))
    pool = try Mempool(name: "generator", capacity: 65535)
    func ring(_ name: String) throws -> MbufRing {
      try MbufRing(name: name, capacity: settings.queue, mode: [.singleProducer, .singleConsumer])
    }
    (entry, middle, exit, short) = (try ring("entry"), try ring("middle"), try ring("exit"), try ring("short"))
    for index in 0..<4 { unused.append(try ring("unused-\(index)")) }
    let lcores = isShared ? [eal.workers[1], eal.workers[1]] : [eal.workers[1], eal.workers[2]]
    let a = try Gateway(
      .sealing, settings, eal, lcores[0],
      wires: [RingPort("a0", from: entry, to: unused[0]), RingPort("a1", from: unused[1], to: middle)])
    let b = try Gateway(
      .opening, settings, eal, lcores[1],
      wires: [RingPort("b0", from: unused[2], to: exit), RingPort("b1", from: middle, to: unused[3])])
    gateways = [a, b]
    try a.connect(to: b)
    try b.connect(to: a)
    let packets = Load(size: size, sas: 1).clearPackets()
    frameCount = packets.count
    frames = .allocate(capacity: packets.count)
    let mac = a.dataPlane.ports[0].macAddress
    for (index, packet) in packets.enumerated() {
      let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: packet.count + 14, alignment: 64)
      frame.copyBytes(from: mac.bytes + Plan.peerMAC.bytes + [0x08, 0x00] + packet)
      (frames + index).initialize(to: UnsafeRawBufferPointer(frame))
    }
    if isShared {
      try DataPlane.startInTurn(gateways.map(\.dataPlane))
    } else {
      for gateway in gateways { try gateway.dataPlane.start() }
    }
  }

  /// A generator of so many packets a second, for so long. `isDirect`: past the gateways.
  func run(
    rate: Double, seconds: Double, isDirect: Bool = false, latencies: UnsafeMutableBufferPointer<UInt32>? = nil
  ) throws -> ChainRun {
    var generator = PacedGenerator(
      pool: pool.base, entry: isDirect ? short.base : entry.base, exit: isDirect ? short.base : exit.base,
      frames: UnsafePointer(frames), frameCount: frameCount, rate: rate, packets: max(1, Int(rate * seconds)))
    generator.latencies = latencies?.baseAddress
    generator.capacity = latencies?.count ?? 0
    let memory = UnsafeMutablePointer<PacedGenerator>.allocate(capacity: 1)
    memory.initialize(to: generator)
    defer { memory.deallocate() }
    // What the last run left behind.
    usleep(2000)
    exit.drain()
    let before = waited
    try eal.workers[0].launch(generatorMain, memory)
    _ = eal.workers[0].wait()
    return ChainRun(generator: memory.pointee, waited: waited - before)
  }

  /// ns that the pollers' threads waited for their cores while other threads had them, since they started.
  var waited: UInt64 { waits.reduce(0) { $0 + (Self.runDelay($1) ?? 0) } }
  private lazy var waits: [String] = {
    let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
    return threads.map { "/proc/self/task/\($0)/" }
      .filter { (try? String(contentsOfFile: $0 + "comm", encoding: .utf8))?.hasPrefix("rte-worker") ?? false }
      .map { $0 + "schedstat" }
  }()

  /// The second number of a thread's schedstat.
  private static func runDelay(_ path: String) -> UInt64? {
    let text = try? String(contentsOfFile: path, encoding: .utf8)
    return text.flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { UInt64($0) }
  }

  /// Reasons of packets that the gateways dropped, and how many.
  var drops: [String: UInt64] {
    var all: [String: UInt64] = [:]
    for gateway in gateways {
      for (reason, count) in gateway.dataPlane.allDrops { all["\(reason)", default: 0] += count }
    }
    return all
  }

  func stop() {
    for gateway in gateways { gateway.dataPlane.stop() }
    eal.stop()
  }
}

/// One run of the generator.
struct ChainRun {
  var generator: PacedGenerator
  /// ns that others had the cores of generator and gateways, as the kernel counts.
  var waited: UInt64
  var lost: Int { generator.packets - generator.received }
  /// What the last packet was late, as a part of the time: at a rate that is too high, queues fill until they lose.
  var backlog: Double {
    max(0, Double(generator.duration) - generator.interval * Double(generator.packets)) / Double(generator.duration)
  }
  /// Others took no more than one thousandth of the time.
  var isQuiet: Bool { Double(waited) * Double(generator.hertz) < Double(generator.duration) * 1e6 }
}

/// One of the two.
private final class Gateway {
  enum Role { case sealing, opening }

  let dataPlane: DataPlane
  private let role: Role
  private let quiescence = QuiescentState(readers: 1)
  private let routing: RoutingTable
  private let database: SecurityDatabase
  private let wires: [RingPort]

  init(_ role: Role, _ settings: GatewayChain.Settings, _ eal: EAL, _ lcore: Lcore, wires: [RingPort]) throws {
    self.role = role
    self.wires = wires
    let limits = DatabaseLimits(sas: 16, policies: 16)
    routing = RoutingTable(reclaimer: quiescence)
    database = SecurityDatabase(
      engine: try Rig.engine(settings.engine, for: settings.algorithm), workers: 1, limits: limits,
      reclaimer: quiescence, now: 1)
    var configuration = DataPlaneConfiguration(
      ports: wires.map { .init(name: $0.name, device: $0.device, hasHost: false, mac: $0.mac) },
      counterSlots: limits.counterSlots)
    configuration.name = role == .sealing ? "a" : "b"
    dataPlane = try DataPlane(
      configuration, eal: eal, quiescence: quiescence,
      tables: DataPlaneTables(database, routing),
      lcores: [lcore])
    if settings.algorithm != .forward { try installRules(settings.algorithm) }
  }

  private var lan: String { role == .sealing ? "192.168.0.254/24" : "10.0.0.254/24" }
  private var wan: String { role == .sealing ? "172.16.1.1" : "172.16.1.2" }
  private var farNet: String { role == .sealing ? "10.0.0.0/24" : "192.168.0.0/24" }

  private func installRules(_ algorithm: Algorithm) throws {
    let ends = (IPAddress("172.16.1.1")!, IPAddress("172.16.1.2")!)
    var sa = SAParameters(
      spi: Plan.spi(0), source: ends.0, destination: ends.1, transform: algorithm.transform(0), replayWindow: 64)
    sa.direction = role == .sealing ? .out : .in
    try database.add(sa, origin: 0)
    let selector = Selector(source: IPPrefix("192.168.0.0/24")!, destination: IPPrefix("10.0.0.0/24")!)
    let policy = PolicyParameters(
      direction: role == .sealing ? .out : .in, selector: selector,
      templates: [SATemplate(source: ends.0, destination: ends.1)])
    _ = try database.add(policy, replacing: false, origin: 0)
  }

  /// Interfaces, route and neighbours.
  func connect(to other: Gateway) throws {
    let addresses = [lan, wan + "/24"]
    for (index, port) in dataPlane.ports.enumerated() {
      try routing.set(
        Interface(
          port: UInt16(index), name: wires[index].name, mac: port.macAddress,
          addresses: [LocalAddress(addresses[index])!]))
    }
    let hop = IPAddress(other.wan)!
    try routing.setStaticNeighbor(NeighborKey(port: 1, address: hop), mac: other.dataPlane.ports[1].macAddress)
    try routing.setStaticNeighbor(
      NeighborKey(port: 0, address: IPAddress(Plan.innerDestination(0))!), mac: Plan.peerMAC)
    try routing.add(Route(IPPrefix(farNet)!, .via(hop, port: 1)))
    dataPlane.shared.pointee.routingGeneration.store(1, ordering: .releasing)
  }
}

/// A port of DPDK's ring driver over rings that exist: what comes from one, and goes to the other. The driver takes them
/// as `rte_eth_from_rings` hands them to it (struct ring_internal_args), by address.
private final class RingPort {
  let name: String
  var mac: MACAddress { MACAddress(rawValue: 0x0200_0000_0000 + UInt64(UInt(bitPattern: memory) >> 6 & 0xffff_ffff)) }
  private let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)

  init(_ name: String, from: MbufRing, to: MbufRing) {
    self.name = name
    let rings = memory + 48
    rings.storeBytes(of: from.base, as: OpaquePointer.self)
    rings.storeBytes(of: to.base, toByteOffset: 8, as: OpaquePointer.self)
    memory.storeBytes(of: rings, as: UnsafeMutableRawPointer.self)
    memory.storeBytes(of: 1, toByteOffset: 8, as: UInt32.self)
    memory.storeBytes(of: rings + 8, toByteOffset: 16, as: UnsafeMutableRawPointer.self)
    memory.storeBytes(of: 1, toByteOffset: 24, as: UInt32.self)
    memory.storeBytes(of: 0, toByteOffset: 28, as: UInt32.self)
    memory.storeBytes(of: memory, toByteOffset: 32, as: UnsafeMutableRawPointer.self)
  }

  var device: String { "net_ring_\(name),internal=0x\(String(UInt(bitPattern: memory), radix: 16))" }

  deinit { memory.deallocate() }
}
