import CDPDK
import DPDK
import Foundation
import Synchronization
import Threads
import Wire

/// The gateway's own kernel: a TAP for each port that wants one, and a thread that carries frames between TAPs and
/// workers, so that workers make no system call. The same thread keeps, within limits, the packets that wait for a
/// neighbour.
public final class HostPath: @unchecked Sendable {
  /// A worker found no neighbour: have it resolved. Called on the host thread; must not block.
  public var onUnresolved: (@Sendable (_ port: UInt16, _ address: IPAddress) -> Void)?

  public let taps: [TapDevice?]
  let waiting: MbufRing?
  private let fromPorts: [MbufRing?]
  private let toWorkers: [MbufRing]
  private let workerOfPort: [Int]
  private let pool: Mempool
  private let counters: CounterBlock
  private var queue: NeighborQueue
  private var saQueue = SAQueue()
  /// Whose frames go by no policy.
  public let keyDaemonSockets: KeyDaemonSockets
  private var keyDaemonFrames: KeyDaemonFrames
  /// Frames of a port since its TAP was empty.
  private var framesSinceEmpty: [Int]
  /// A key daemon listens: an ACQUIRE may have an answer. Written by the control thread.
  public let hasKeyDaemon = Atomic(false)
  private let stopping = Atomic(false)
  private let released = Mutex<[(port: UInt16, address: IPAddress)]>([])
  private let expected = Mutex(ExpectedSPIList())
  /// What may go on now.
  private let answered = Mutex<Set<SAQueue.Want>>([])
  private let dummies = Mutex<[DummyPacket]>([])
  private var thread: JoinableThread?

  init(
    _ configuration: DataPlaneConfiguration, ports: [EthernetPort], plan: QueuePlan, workers: Int, pools: BufferPools
  ) throws {
    counters = CounterBlock(count: DropReason.allCases.count)
    pool = try pools.pool(socket: ports.first?.socket ?? -1)
    keyDaemonSockets = KeyDaemonSockets(taps: configuration.ports.count)
    keyDaemonFrames = KeyDaemonFrames(keyDaemonSockets)
    framesSinceEmpty = Array(repeating: 0, count: configuration.ports.count)
    queue = NeighborQueue(
      perNeighbor: configuration.waitingPerNeighbor, inAll: configuration.waitingInAll)
    workerOfPort = ports.indices.map(plan.hostWorker(port:))
    waiting = try MbufRing(name: "\(configuration.name)-waiting", capacity: 1024, mode: [.singleConsumer])
    var taps: [TapDevice?] = []
    for (index, port) in configuration.ports.enumerated() {
      guard port.hasHost else {
        taps.append(nil)
        continue
      }
      let tap = try TapDevice(name: port.name)
      try tap.setMACAddress(ports[index].macAddress)
      try tap.setMTU(port.mtu)
      taps.append(tap)
    }
    self.taps = taps
    fromPorts = try taps.enumerated().map { index, tap in
      try tap.map { _ in
        try MbufRing(name: "\(configuration.name)-host-\(index)", capacity: 1024, mode: [.singleConsumer])
      }
    }
    toWorkers = try (0..<workers).map {
      try MbufRing(
        name: "\(configuration.name)-kernel-\($0)", capacity: 1024, mode: [.singleProducer, .singleConsumer])
    }
  }

  func ring(toWorker worker: Int) -> MbufRing? { toWorkers[worker] }
  func ring(fromPort port: Int) -> MbufRing? { fromPorts[port] }
  func drops(_ reason: DropReason) -> UInt64 { (counters.base + Int(reason.rawValue)).value }

  // MARK: Life

  func start() throws {
    for tap in taps { try tap?.setUp(true) }
    thread = try JoinableThread(name: "gw-host") { [self] in loop() }
  }

  func stop() {
    stopping.store(true, ordering: .relaxed)
    thread?.join()
    keyDaemonSockets.giveUp()
    for tap in taps { tap?.close() }
    for ring in fromPorts { ring?.free() }
    for ring in toWorkers { ring.free() }
    waiting?.free()
    queue.dropAll { cdpdk_free($0) }
    for mbuf in saQueue.takeAll() { cdpdk_free(mbuf) }
  }

  /// The neighbour is known now (or its packets may try again). Any thread.
  public func release(port: UInt16, address: IPAddress) {
    released.withLock { $0.append((port, address)) }
  }

  /// The policy may have an SA now: what waits for it tries again, in order. nil: all policies. Any thread.
  public func releaseProtected(policy: UInt32?) {
    answered.withLock { _ = $0.insert(.policy(policy ?? Self.allPolicies)) }
  }

  /// An SA has its key schedule: what waited for it goes on. Any thread.
  public func releaseKeyed(serial: UInt32) { answered.withLock { _ = $0.insert(.sa(serial)) } }

  /// An SA with this SPI (as it lies in a packet) will come: its packets wait. Returns the bit to set, if any.
  func expect(spi: UInt32) -> Int? { expected.withLock { $0.expect(spi) } }

  /// It has come, or will not: its packets are looked up again. Returns the bit to clear, if any.
  func settle(spi: UInt32) -> Int? {
    let bit = expected.withLock { $0.settle(spi, now: Self.seconds()) }
    answered.withLock { _ = $0.insert(.spi(spi)) }
    return bit
  }

  /// Sends dummy packets by tunnel SAs. Any thread.
  public func send(dummies packets: [DummyPacket]) { dummies.withLock { $0 += packets } }

  /// No policy has this index: its direction bits would be wrong.
  private static let allPolicies = UInt32.max

  // MARK: The thread

  private func loop() {
    var idle = 0
    var expiry = 0.0
    while !stopping.load(ordering: .relaxed) {
      var work = 0
      for port in taps.indices { work += toKernel(port) + fromKernel(port) }
      work += collectWaiting()
      work += releaseReady() + releaseProtected() + sendDummies()
      // However busy it is: what waits holds places that others need.
      let now = Self.seconds()
      if now >= expiry {
        expire(now: now)
        expiry = now + 0.05
      }
      idle = work > 0 ? 0 : idle + 1
      if idle > 8 { rest(milliseconds: idle > 200 ? 2 : 1) }
    }
  }

  /// Until a TAP has something, or rings may have.
  private func rest(milliseconds: Int32) {
    var sets = taps.compactMap { tap in tap.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) } }
    if sets.isEmpty {
      usleep(UInt32(milliseconds) * 1000)
    } else {
      _ = poll(&sets, nfds_t(sets.count), milliseconds)
    }
  }

  private func toKernel(_ port: Int) -> Int {
    guard let ring = fromPorts[port], let tap = taps[port] else { return 0 }
    return withUnsafeTemporaryAllocation(of: Mbuf?.self, capacity: 32) { burst in
      let count = ring.dequeue(burst.baseAddress!, 32)
      for index in 0..<count {
        if tap.write(burst[index]!) != .done { count1(.hostWrite) }
      }
      if count > 0 { cdpdk_free_bulk(burst.baseAddress!, UInt32(count)) }
      return count
    }
  }

  private func fromKernel(_ port: Int) -> Int {
    guard let tap = taps[port] else {
      keyDaemonSockets.noteEmpty(tap: port)
      return 0
    }
    return withUnsafeTemporaryAllocation(of: Mbuf.self, capacity: Self.mostFrames) { burst in
      let count = read(tap, port: port, into: burst)
      let ours = selectKeyDaemons(UnsafeBufferPointer(rebasing: burst[..<count]))
      for index in 0..<count {
        burst[index].note.initialize(
          to: PacketNote(
            kind: ours?[index] == true ? .fromKeyDaemon : .fromKernel, origin: .host, version: 0, dontFragment: false,
            isSealed: false, port: UInt16(port), policy: 0, nextHopHigh: 0, nextHopLow: 0, destinationHigh: 0,
            destinationLow: 0))
        give(burst[index], toWorker: workerOfPort[port])
      }
      return count
    }
  }

  private static let mostFrames = 32
  /// More than a TAP holds (its interface's txqueuelen, 1000).
  private static let framesOfFullTap = 8192

  /// Returns how many frames there were.
  private func read(_ tap: TapDevice, port: Int, into burst: UnsafeMutableBufferPointer<Mbuf>) -> Int {
    var count = 0
    while count < burst.count {
      guard let mbuf = pool.allocate() else { return count }
      let outcome = tap.read(into: mbuf)
      guard outcome == .done, mbuf.pointee.data_len >= 14 else {
        cdpdk_free(mbuf)
        if outcome == .dropped { count1(.hostMalformed) }
        if outcome == .dropped || outcome == .done { continue }
        return noteEmpty(port, read: count)
      }
      (burst.baseAddress! + count).initialize(to: mbuf)
      count += 1
    }
    framesSinceEmpty[port] += count
    if framesSinceEmpty[port] >= Self.framesOfFullTap { _ = noteEmpty(port, read: count) }
    return count
  }

  private func noteEmpty(_ port: Int, read count: Int) -> Int {
    framesSinceEmpty[port] = 0
    keyDaemonSockets.noteEmpty(tap: port)
    return count
  }

  /// Nil: none is.
  private func selectKeyDaemons(_ frames: UnsafeBufferPointer<Mbuf>) -> [Bool]? {
    guard !frames.isEmpty, !keyDaemonFrames.isIdle else { return nil }
    let contents = frames.map { UnsafeRawBufferPointer(start: $0.data, count: Int($0.pointee.data_len)) }
    return keyDaemonFrames.areOurs(contents, now: Self.seconds())
  }

  private func give(_ mbuf: Mbuf, toWorker worker: Int) {
    var element: Mbuf? = mbuf
    if toWorkers[worker].enqueue(&element, 1) != 1 {
      cdpdk_free(mbuf)
      count1(.hostQueueFull)
    }
  }

  // MARK: Waiting for neighbours

  private func collectWaiting() -> Int {
    guard let waiting else { return 0 }
    return withUnsafeTemporaryAllocation(of: Mbuf?.self, capacity: 32) { burst in
      let count = waiting.dequeue(burst.baseAddress!, 32)
      for index in 0..<count { keep(burst[index]!) }
      return count
    }
  }

  private func keep(_ mbuf: Mbuf) {
    let note = mbuf.note.pointee
    switch note.kind {
    case .waitsForSA: return keepForSA(mbuf, note.policy)
    case .waitsForKeys, .waitsToBeOpened: return keepForKeys(mbuf, serial: note.policy)
    case .waitsForSPI: return keepEarly(mbuf, spi: note.policy)
    default: break
    }
    let address = note.nextHop
    let key = NeighborQueue.Key(port: note.port, address: address)
    let result = queue.add(mbuf, for: key, now: Self.seconds())
    if let dropped = result.dropped {
      cdpdk_free(dropped)
      count1(.neighborQueueFull)
    }
    if result.shouldAsk { onUnresolved?(note.port, address) }
  }

  private func releaseReady() -> Int {
    let ready = released.withLock { list in
      let all = list
      list.removeAll()
      return all
    }
    for item in ready {
      for mbuf in queue.take(NeighborQueue.Key(port: item.port, address: item.address)) {
        mbuf.note.pointee.kind = .resolved
        give(mbuf, toWorker: workerOfPort[Int(item.port)])
      }
    }
    return ready.count
  }

  private func expire(now: Double) {
    for mbuf in queue.expired(now: now) {
      // A worker tells the sender, as it has the rate limit and the routes.
      mbuf.note.pointee.kind = .failed
      give(mbuf, toWorker: workerOfPort[Int(mbuf.note.pointee.port)])
    }
    for mbuf in saQueue.expired(now: now) {
      cdpdk_free(mbuf)
      count1(.saWaitTimeout)
    }
  }

  // MARK: Waiting for SAs

  private func keepForSA(_ mbuf: Mbuf, _ policy: UInt32) {
    let isHeard = hasKeyDaemon.load(ordering: .relaxed)
    if isHeard, saQueue.add(mbuf, for: .policy(policy), now: Self.seconds()) { return }
    cdpdk_free(mbuf)
    count1(isHeard ? .saQueueFull : .policyNoSA)
  }

  private func keepForKeys(_ mbuf: Mbuf, serial: UInt32) {
    if saQueue.add(mbuf, for: .sa(serial), now: Self.seconds()) { return }
    cdpdk_free(mbuf)
    count1(.saQueueFull)
  }

  private func keepEarly(_ mbuf: Mbuf, spi: UInt32) {
    switch expected.withLock({ $0.state(spi, now: Self.seconds()) }) {
    case .expected: if saQueue.add(mbuf, for: .spi(spi), now: Self.seconds()) { return }
    case .settled: return goOn(mbuf)
    case .unknown: break
    }
    cdpdk_free(mbuf)
    count1(.noSA)
  }

  /// Back to a worker, which looks for the SA again.
  private func goOn(_ mbuf: Mbuf) {
    let kind = mbuf.note.pointee.kind
    mbuf.note.pointee.kind = kind == .waitsToBeOpened || kind == .waitsForSPI ? .mayBeOpened : .mayHaveSA
    give(mbuf, toWorker: workerOfPort[Int(mbuf.note.pointee.port)])
  }

  private func releaseProtected() -> Int {
    let ready = answered.withLock { set in
      let all = set
      if !all.isEmpty { set = [] }
      return all
    }
    guard !ready.isEmpty else { return 0 }
    // What was on its way here when the SA came.
    var rounds = 0
    while rounds < 32, collectWaiting() > 0 { rounds += 1 }
    let mbufs = ready.contains(.policy(Self.allPolicies)) ? saQueue.takeAll() : ready.flatMap { saQueue.take($0) }
    for mbuf in mbufs { goOn(mbuf) }
    return mbufs.count
  }

  // MARK: Dummy packets

  private func sendDummies() -> Int {
    let packets = dummies.withLock { list in
      let all = list
      if !all.isEmpty { list = [] }
      return all
    }
    for packet in packets {
      guard let mbuf = pool.allocate() else { break }
      guard packet.length <= mbuf.tailroom else {
        cdpdk_free(mbuf)
        continue
      }
      mbuf.data.initializeMemory(as: UInt8.self, repeating: 0, count: packet.length)
      mbuf.setLength(packet.length)
      let (high, low) = packet.destination.halves
      mbuf.note.initialize(
        to: PacketNote(
          kind: .dummy, origin: .host, version: packet.destination.family == .v4 ? 4 : 6, dontFragment: false,
          isSealed: true, port: 0, policy: packet.spi, nextHopHigh: 0, nextHopLow: 0, destinationHigh: high,
          destinationLow: low))
      give(mbuf, toWorker: 0)
    }
    return packets.count
  }

  private func count1(_ reason: DropReason) { (counters.base + Int(reason.rawValue)).increment() }

  private static func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
