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
  ///   - lan: addresses of a second port, number 1, and hosts there; with none there is one port.
  ///   - schedules: key schedules at most.
  ///   - bursts: the ring of bursts for idle workers; there is a second worker then.
  init(
    own: [String], far: [(String, String)], neighbors: [String], lan: (own: [String], neighbors: [String]) = ([], []),
    mtu: Int = TestEAL.mtu,
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
    let ports = lan.own.isEmpty ? ["wan"] : ["wan", "lan"]
    for (index, name) in ports.enumerated() {
      let addresses = (index == 0 ? own : lan.own).map { LocalAddress($0)! }
      try routing.set(
        Interface(port: UInt16(index), name: name, mac: mac, mtu: UInt32(mtu), addresses: addresses))
      for address in index == 0 ? neighbors + far.map(\.1) : lan.neighbors {
        try routing.setStaticNeighbor(NeighborKey(port: UInt16(index), address: IPAddress(address)!), mac: mac)
      }
    }
    for (prefix, hop) in far { try routing.add(Route(IPPrefix(prefix)!, .via(IPAddress(hop)!, port: 0))) }
    let ours = (own + lan.own).map { LocalAddress($0)!.address }
    security.isOwnAddress = { ours.contains($0) }
    security.permits.weakAlgorithms = true
    let state = UnsafeMutablePointer<SharedState>.allocate(capacity: 1)
    state.initialize(to: SharedState())
    let context = WorkerMemory.Context(
      configuration: shared.configuration,
      tables: DataPlaneTables(security, routing),
      shared: state, ports: Array(repeating: shared.port, count: ports.count),
      plan: QueuePlan(queues: ports.map { _ in (1, 1) }, workers: 2), handoffs: ports.map { _ in nil },
      bursts: bursts, host: shared.host, pools: shared.pools)
    memory = try WorkerMemory(id: 0, lcore: shared.eal.workers[0], context)
    helper = bursts == nil ? nil : try WorkerMemory(id: 1, lcore: shared.eal.workers[0], context)
    for index in ports.indices { worker.pointee.ports[index].mac = (mac.rawValue << 16).byteSwapped }
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

  /// What one burst did: IP packets that went out by the ports and those that went to the kernel.
  struct Outcome {
    var sent: [[UInt8]] = []
    /// Of those the ones by the second port, if they were few.
    var byLAN: [[UInt8]] = []
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

  /// IP packets come in by the first port.
  func receive(_ packets: [[UInt8]]) -> Outcome { receive(packets, port: 0) }

  /// IP packets come in by a port.
  func receive(_ packets: [[UInt8]], port: Int) -> Outcome {
    receive(frames: packets.map { Self.frame($0) }, port: port)
  }

  /// Ethernet frames come in by a port.
  func receive(frames: [[UInt8]], port: Int = 0) -> Outcome {
    precondition(frames.count <= worker.pointee.burst)
    return measure { w in
      for (index, frame) in frames.enumerated() { w.pointee.received[index] = mbuf(frame) }
      ReceiveStage.run(w, port: port, count: frames.count)
      WorkerLoop.process(w, frames.count)
    }
  }

  /// The records of what is received, by the list that each waits in then. Their buffers are gone.
  func sort(_ packets: [[UInt8]]) -> (inbound: [Packet], policy: [Packet]) {
    let w = worker
    for (index, packet) in packets.enumerated() { w.pointee.received[index] = mbuf(Self.frame(packet)) }
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
  func sendFromHost(_ packets: [[UInt8]]) -> Outcome { sendFromHost(frames: packets.map { Self.frame($0) }) }

  /// Ethernet frames that the kernel sends by a port.
  func sendFromHost(frames: [[UInt8]], port: UInt16 = 0, kind: PacketNote.Kind = .fromKernel) -> Outcome {
    measure { w in
      for frame in frames {
        var element: Mbuf? = mbuf(frame)
        element!.note.initialize(
          to: PacketNote(
            kind: kind, origin: .host, version: 0, dontFragment: false, isSealed: false, port: port, policy: 0,
            nextHopHigh: 0, nextHopLow: 0, destinationHigh: 0, destinationLow: 0))
        precondition(cdpdk_ring_enqueue(w.pointee.fromHost!, &element, 1) == 1)
      }
      WorkerLoop.process(w, HostStage.receive(w))
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
        for index in 0..<count { w.pointee.received[index] = mbuf(Self.frame(packets[next + index])) }
        SharedBursts.take(w, port: 0, count: count)
        next += count
      }
      SharedBursts.complete(w)
    }
  }

  private func measure(_ work: (WorkerPointer) -> Void) -> Outcome {
    let w = worker
    let before = dropCounts
    w.pointee.now = 1
    w.pointee.generation = w.pointee.spd.generation &+ w.pointee.routing
    var outcome = Outcome()
    // The ports send nothing: what their buffers do not hold goes into a ring.
    for port in 0..<w.pointee.portCount {
      w.pointee.ports[port].hasTx = false
      w.pointee.ports[port].handoff = shared.sentRing.base
    }
    work(w)
    var frame: Mbuf?
    while shared.sentRing.dequeue(&frame, 1) == 1 { outcome.sent.append(take(frame!)) }
    for port in 0..<w.pointee.portCount {
      let waiting = (0..<w.pointee.ports[port].txCount).map { w.pointee.ports[port].tx[$0]! }
      precondition(w.pointee.ports[port].txBytes == waiting.reduce(0) { $0 + Int($1.pointee.pkt_len) })
      let packets = waiting.map(take)
      outcome.sent += packets
      if port == 1 { outcome.byLAN = packets }
      (w.pointee.ports[port].txCount, w.pointee.ports[port].txBytes) = (0, 0)
    }
    var element: Mbuf?
    while shared.hostRing.dequeue(&element, 1) == 1 { outcome.host.append(take(element!)) }
    w.releaseFreed()
    for (number, count) in dropCounts.enumerated() where count != before[number] {
      outcome.drops[DropReason(rawValue: UInt8(number))!] = count - before[number]
    }
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
    Dictionary(uniqueKeysWithValues: zip(DropReason.allCases, dropCounts))
  }

  private var dropCounts: [UInt64] { (0..<DropReason.allCases.count).map { (worker.pointee.drops + $0).value } }

  /// Buffers of all pools that nobody gave back, but for what another test left waiting.
  static var buffersInUse: Int {
    forgetWaiting()
    return (try? TestEAL.shared.get())?.pools.all.reduce(0) { $0 + $1.inUse } ?? 0
  }

  /// All tests have one host path. Returns how many waited there.
  @discardableResult
  static func forgetWaiting() -> Int { takeWaiting().count }

  /// What waits at the host path, by the notes.
  func takeWaiting() -> [PacketNote] { Self.takeWaiting() }

  private static func takeWaiting() -> [PacketNote] {
    var notes: [PacketNote] = []
    var mbuf: Mbuf?
    while let waiting = try? TestEAL.shared.get().host.waiting, waiting.dequeue(&mbuf, 1) == 1 {
      notes.append(mbuf!.note.pointee)
      cdpdk_free(mbuf!)
    }
    return notes
  }

  /// Around an IP packet.
  static func frame(_ packet: [UInt8], to destination: MACAddress = mac) -> [UInt8] {
    var frame = [UInt8](repeating: 0, count: 14) + packet
    let isV6 = packet.first.map { $0 >> 4 == 6 } ?? false
    frame.withUnsafeMutableBytes {
      Ethernet.write(
        $0.baseAddress!, destination: destination, source: mac, etherType: isV6 ? EtherType.ipv6 : EtherType.ipv4)
    }
    return frame
  }

  private func mbuf(_ frame: [UInt8]) -> Mbuf {
    let mbuf = cdpdk_alloc(worker.pointee.pool)!
    precondition(mbuf.tailroom >= frame.count)
    mbuf.data.copyMemory(from: frame, byteCount: frame.count)
    mbuf.setLength(frame.count)
    return mbuf
  }

  private func take(_ mbuf: Mbuf) -> [UInt8] {
    let bytes = UnsafeRawBufferPointer(start: mbuf.data + 14, count: Int(mbuf.pointee.data_len) - 14)
    defer { cdpdk_free(mbuf) }
    return Array(bytes)
  }
}
