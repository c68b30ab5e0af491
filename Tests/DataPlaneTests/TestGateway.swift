import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

@testable import DataPlane

/// A worker with tables of its own, driven by hand: packets in, packets out, nothing polled.
final class TestGateway {
  let security: SecurityDatabase
  let routing: RoutingTable
  let memory: WorkerMemory
  /// Works for nobody until a test has it help the first.
  let helper: WorkerMemory?
  private let shared: TestEAL.Shared

  /// Of every port and neighbour: what one gateway sends, the other takes for its own.
  static let mac = MACAddress(rawValue: 0x0200_0000_000a)

  var worker: UnsafeMutablePointer<Worker> { memory.worker }

  /// - Parameters:
  ///   - own: its addresses, with prefix lengths.
  ///   - far: routes, (prefix, next hop); every next hop is a neighbour.
  ///   - neighbors: hosts on its own subnets.
  ///   - schedules: key schedules at most.
  ///   - bursts: the ring of bursts for idle workers; there is a second worker then.
  init(
    own: [String], far: [(String, String)], neighbors: [String], mtu: Int = TestEAL.mtu,
    engine: any CryptoEngine = OpenSSLEngine(), bursts: MbufRing? = nil, schedules: Int = 65_536
  ) throws {
    shared = try TestEAL.shared.get()
    Self.forgetWaiting()
    let mac = Self.mac
    security = SecurityDatabase(
      engine: engine, workers: bursts == nil ? 1 : 2, limits: DatabaseLimits(schedules: schedules),
      reclaimer: ImmediateReclaimer(), now: 1)
    var limits = RoutingLimits()
    limits.ports = 4
    limits.nodes = 4096
    limits.adjacencies = 256
    routing = RoutingTable(limits: limits, reclaimer: ImmediateReclaimer())
    let addresses = own.map { LocalAddress($0)! }
    try routing.set(Interface(port: 0, name: "wan", mac: mac, mtu: UInt32(mtu), addresses: addresses))
    for address in neighbors + far.map(\.1) {
      try routing.setStaticNeighbor(NeighborKey(port: 0, address: IPAddress(address)!), mac: mac)
    }
    for (prefix, hop) in far { try routing.add(Route(IPPrefix(prefix)!, .via(IPAddress(hop)!, port: 0))) }
    let ours = addresses.map(\.address)
    security.isOwnAddress = { ours.contains($0) }
    let state = UnsafeMutablePointer<SharedState>.allocate(capacity: 1)
    state.initialize(to: SharedState())
    let context = WorkerMemory.Context(
      configuration: shared.configuration,
      tables: DataPlaneTables(security, routing),
      shared: state, ports: [shared.port], plan: QueuePlan(queues: [(1, 1)], workers: 2), handoffs: [nil],
      bursts: bursts, host: shared.host, pools: shared.pools)
    memory = try WorkerMemory(id: 0, lcore: shared.eal.workers[0], context)
    helper = bursts == nil ? nil : try WorkerMemory(id: 1, lcore: shared.eal.workers[0], context)
    worker.pointee.ports[0].mac = (mac.rawValue << 16).byteSwapped
    worker.pointee.ports[0].hasHost = true
    worker.pointee.ports[0].hostRing = shared.hostRing.base
  }

  deinit {
    // Fragments that wait are in buffers of all tests.
    worker.pointee.fragments.collect(worker, now: .max)
    worker.releaseFreed()
  }

  /// Of its port's link, from now on.
  func setMTU(_ mtu: Int) throws {
    guard var interface = routing.interface(port: 0) else { return }
    interface.mtu = UInt32(mtu)
    try routing.set(interface)
    worker.pointee.routing &+= 1
  }

  /// What one burst did: IP packets that went out by the port and those that went to the kernel.
  struct Outcome {
    var sent: [[UInt8]] = []
    var host: [[UInt8]] = []
    var drops: [DropReason: UInt64] = [:]
  }

  /// As `receive` and `sendFromHost`, burst by burst.
  func inBursts(_ packets: [[UInt8]], _ run: ([[UInt8]]) -> Outcome) -> Outcome {
    var all = Outcome()
    for start in stride(from: 0, to: packets.count, by: worker.pointee.burst) {
      let outcome = run(Array(packets[start..<min(start + worker.pointee.burst, packets.count)]))
      all.sent += outcome.sent
      all.host += outcome.host
      all.drops.merge(outcome.drops) { $0 + $1 }
    }
    return all
  }

  /// As if what waits for its other fragments had waited too long. What was dropped.
  func expireFragments() -> [DropReason: UInt64] { measure { $0.pointee.fragments.collect($0, now: .max) }.drops }

  /// IP packets come in by the port.
  func receive(_ packets: [[UInt8]]) -> Outcome {
    run(packets) { w, mbuf, index in
      w.pointee.received[index] = mbuf
    } finish: { w, count in
      ReceiveStage.run(w, port: 0, count: count)
    }
  }

  /// The records of what is received, by the list that each waits in then. Their buffers are gone.
  func sort(_ packets: [[UInt8]]) -> (inbound: [Packet], policy: [Packet]) {
    let w = worker
    for (index, packet) in packets.enumerated() { w.pointee.received[index] = frame(packet) }
    ReceiveStage.run(w, port: 0, count: packets.count)
    func empty(_ list: inout PacketList) -> [Packet] {
      let records = (0..<list.count).map { list[$0].pointee }
      for record in records { cdpdk_free(record.mbuf) }
      list.count = 0
      return records
    }
    defer {
      w.releaseFreed()
      w.pointee.records.release(keeping: 0)
    }
    return (empty(&w.pointee.inbound), empty(&w.pointee.policy))
  }

  /// IP packets that the gateway's own kernel sends.
  func sendFromHost(_ packets: [[UInt8]]) -> Outcome {
    run(packets) { w, mbuf, _ in
      let packet = w.nextPacket(mbuf, port: 0, origin: .host)!
      packet.pointee.ip = mbuf.data + 14
      packet.pointee.length = Int32(mbuf.pointee.data_len) - 14
      let isV6 = UnsafeRawPointer(mbuf.data).big16(at: 12) == 0x86dd
      precondition((isV6 ? IPParser.ipv6(packet) : IPParser.ipv4(packet)) == nil)
      w.enqueueForPolicy(packet)
    }
  }

  /// A dummy packet by an outbound SA, as the host thread gives it to a worker.
  func sendDummy(_ sa: SAParameters, length: Int) -> Outcome {
    measure { w in
      var mbuf: Mbuf? = cdpdk_alloc(w.pointee.pool)!
      mbuf!.data.initializeMemory(as: UInt8.self, repeating: 0, count: length)
      mbuf!.setLength(length)
      let (high, low) = sa.destination.halves
      mbuf!.note.initialize(
        to: PacketNote(
          kind: .dummy, origin: .host, version: sa.destination.family == .v4 ? 4 : 6, dontFragment: false,
          isSealed: true, port: 0, policy: sa.spi, nextHopHigh: 0, nextHopLow: 0, destinationHigh: high,
          destinationLow: low))
      precondition(cdpdk_ring_enqueue(w.pointee.fromHost!, &mbuf, 1) == 1)
      WorkerLoop.process(w, HostStage.receive(w))
    }
  }

  /// What waits for key schedules comes back, as the host thread gives it back.
  func releaseKeyed() -> Outcome {
    measure { w in
      var mbuf: Mbuf?
      while shared.host.waiting?.dequeue(&mbuf, 1) == 1 {
        let kind = mbuf!.note.pointee.kind
        precondition(kind == .waitsToBeOpened || kind == .waitsForKeys || kind == .waitsForSPI)
        mbuf!.note.pointee.kind = kind == .waitsForKeys ? .mayHaveSA : .mayBeOpened
        precondition(cdpdk_ring_enqueue(w.pointee.fromHost!, &mbuf, 1) == 1)
      }
      WorkerLoop.process(w, HostStage.receive(w))
    }
  }

  /// IP packets come in by the port, many bursts in one round that hands them to idle workers. In the order in which
  /// they leave.
  func receiveHanded(_ packets: [[UInt8]]) -> Outcome {
    precondition(packets.count <= HandoffMemory.mostPackets)
    return measure { w in
      var next = 0
      while next < packets.count {
        let count = min(HandoffMemory.burst, packets.count - next)
        for index in 0..<count { w.pointee.received[index] = frame(packets[next + index]) }
        HandedBursts.take(w, port: 0, count: count)
        next += count
      }
      HandedBursts.complete(w)
    }
  }

  private func run(
    _ packets: [[UInt8]], _ put: (WorkerPointer, Mbuf, Int) -> Void, finish: (WorkerPointer, Int) -> Void = { _, _ in }
  ) -> Outcome {
    precondition(packets.count <= worker.pointee.burst)
    return measure { w in
      for (index, packet) in packets.enumerated() { put(w, frame(packet), index) }
      finish(w, packets.count)
      WorkerLoop.process(w, packets.count)
    }
  }

  private func measure(_ work: (WorkerPointer) -> Void) -> Outcome {
    let w = worker
    let before = drops
    w.pointee.now = 1
    w.pointee.generation = w.pointee.spd.generation &+ w.pointee.routing
    var outcome = Outcome()
    // The port sends nothing: what its buffer does not hold goes into a ring.
    w.pointee.ports[0].hasTx = false
    w.pointee.ports[0].handoff = shared.sentRing.base
    work(w)
    var frame: Mbuf?
    while shared.sentRing.dequeue(&frame, 1) == 1 { outcome.sent.append(take(frame!)) }
    let waiting = (0..<w.pointee.ports[0].txCount).map { w.pointee.ports[0].tx[$0]! }
    precondition(w.pointee.ports[0].txBytes == waiting.reduce(0) { $0 + Int($1.pointee.pkt_len) })
    outcome.sent += waiting.map(take)
    (w.pointee.ports[0].txCount, w.pointee.ports[0].txBytes) = (0, 0)
    var element: Mbuf?
    while shared.hostRing.dequeue(&element, 1) == 1 { outcome.host.append(take(element!)) }
    w.releaseFreed()
    for (reason, count) in drops where count != before[reason] { outcome.drops[reason] = count - before[reason]! }
    return outcome
  }

  /// The SA that a policy has for a packet, the first of its bundle.
  func outboundSA(of packet: [UInt8]) -> UnsafeMutablePointer<gw_sa>? {
    var key = gw_flow_key()
    packet.withUnsafeBytes { bytes in
      let ip = bytes.baseAddress!
      key.direction = UInt8(GW_OUT.rawValue)
      if packet[0] >> 4 == 4 {
        (key.source_low, key.destination_low) = (UInt64(ip.big32(at: 12)), UInt64(ip.big32(at: 16)))
        (key.family, key.ip_protocol) = (2, packet[9])
      } else {
        (key.source_high, key.source_low) = (ip.big64(at: 8), ip.big64(at: 16))
        (key.destination_high, key.destination_low) = (ip.big64(at: 24), ip.big64(at: 32))
        (key.family, key.ip_protocol) = (10, packet[6])
      }
    }
    return worker.pointee.spd.lookup(&key)?.loadSA()
  }

  var drops: [DropReason: UInt64] {
    Dictionary(
      uniqueKeysWithValues: DropReason.allCases.map { ($0, (worker.pointee.drops + Int($0.rawValue)).value) })
  }

  /// Buffers of all pools that nobody gave back, but for what another test left waiting.
  static var buffersInUse: Int {
    forgetWaiting()
    return (try? TestEAL.shared.get())?.pools.all.reduce(0) { $0 + $1.inUse } ?? 0
  }

  /// All tests have one host path.
  private static func forgetWaiting() {
    var mbuf: Mbuf?
    while let waiting = try? TestEAL.shared.get().host.waiting, waiting.dequeue(&mbuf, 1) == 1 { cdpdk_free(mbuf!) }
  }

  private func frame(_ packet: [UInt8]) -> Mbuf {
    let mbuf = cdpdk_alloc(worker.pointee.pool)!
    precondition(mbuf.tailroom >= packet.count + 14)
    let mac = Self.mac
    let isV6 = packet.first.map { $0 >> 4 == 6 } ?? false
    Ethernet.write(mbuf.data, destination: mac, source: mac, etherType: isV6 ? EtherType.ipv6 : EtherType.ipv4)
    (mbuf.data + 14).copyMemory(from: packet, byteCount: packet.count)
    mbuf.setLength(packet.count + 14)
    return mbuf
  }

  private func take(_ mbuf: Mbuf) -> [UInt8] {
    let bytes = UnsafeRawBufferPointer(start: mbuf.data + 14, count: Int(mbuf.pointee.data_len) - 14)
    defer { cdpdk_free(mbuf) }
    return Array(bytes)
  }
}
