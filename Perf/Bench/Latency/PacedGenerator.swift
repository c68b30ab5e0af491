import CDPDK
import DPDK

/// Sends packets at their intended times and times those that come back. One lcore runs it; others read the results when
/// that is done.
struct PacedGenerator {
  /// In each packet, behind its UDP header: the intended time in TSC cycles and the packet's number, 8 bytes each.
  static let stampOffset = 14 + 28
  /// The shortest IP packet that has room for them.
  static let shortestPacket = 28 + 16
  /// The loop's own rounds are shorter: in a longer one, the core did something else.
  static let longestRound: UInt64 = 20_000  // ns
  static let burst = 32

  var pool: OpaquePointer
  /// Packets go in here and come out there.
  var entry: OpaquePointer
  var exit: OpaquePointer
  /// Whole frames, taken in turn.
  var frames: UnsafePointer<UnsafeRawBufferPointer>
  var frameCount: Int
  /// TSC cycles from one packet's intended time to the next one's.
  var interval: Double
  var packets: Int
  var hertz: UInt64
  /// Cycles from intended time to arrival, for the first `capacity` packets that come.
  var latencies: UnsafeMutablePointer<UInt32>?
  var capacity = 0

  // Results.
  var received = 0
  /// Found the entry full.
  var refused = 0
  /// Came after one with a higher number.
  var disordered = 0
  /// Cycles from start to last arrival; longest delay of a sending; longest round, and the sum of those too long.
  var duration: UInt64 = 0
  var longestDelay: UInt64 = 0
  var longestGap: UInt64 = 0
  var stolen: UInt64 = 0

  private var next = 0
  private var start: UInt64 = 0
  private var last: UInt64 = 0
  private var highest = -1

  init(
    pool: OpaquePointer, entry: OpaquePointer, exit: OpaquePointer, frames: UnsafePointer<UnsafeRawBufferPointer>,
    frameCount: Int, rate: Double, packets: Int
  ) {
    self.pool = pool
    self.entry = entry
    self.exit = exit
    self.frames = frames
    self.frameCount = frameCount
    hertz = rte_get_tsc_hz()
    interval = Double(hertz) / rate
    self.packets = packets
  }

  /// Until all packets were sent, and came back or did not within 50 ms.
  mutating func run() {
    let perCycle = 1 / interval
    let tooLong = Self.longestRound * hertz / 1_000_000_000
    withUnsafeTemporaryAllocation(of: Mbuf?.self, capacity: Self.burst) { memory in
      let mbufs = memory.baseAddress.unsafelyUnwrapped
      start = cdpdk_cycles()
      last = start
      var before = start
      while next < packets || (received &+ refused < packets && cdpdk_cycles() &- last < hertz / 20) {
        let now = cdpdk_cycles()
        let gap = now &- before
        before = now
        if gap > tooLong { stolen &+= gap }
        if gap > longestGap { longestGap = gap }
        let due = min(packets, Int(Double(now &- start) * perCycle) &+ 1)
        if due > next { send(mbufs, min(Self.burst, due &- next), now) }
        receive(mbufs)
      }
      duration = last &- start
    }
  }

  @inline(__always)
  private mutating func send(_ mbufs: UnsafeMutablePointer<Mbuf?>, _ count: Int, _ now: UInt64) {
    let late = now &- intended(next)
    if late > longestDelay, late < UInt64.max / 2 { longestDelay = late }
    last = max(last, now)
    guard cdpdk_alloc_bulk(pool, mbufs, UInt32(count)) == 0 else {
      refused &+= count
      next &+= count
      return
    }
    var i = 0
    while i < count {
      let mbuf = mbufs[i].unsafelyUnwrapped
      let frame = frames[(next &+ i) % frameCount]
      mbuf.data.copyMemory(from: frame.baseAddress.unsafelyUnwrapped, byteCount: frame.count)
      mbuf.setLength(frame.count)
      mbuf.data.storeBytes(of: intended(next &+ i), toByteOffset: Self.stampOffset, as: UInt64.self)
      mbuf.data.storeBytes(of: next &+ i, toByteOffset: Self.stampOffset + 8, as: Int.self)
      i &+= 1
    }
    next &+= count
    let taken = Int(cdpdk_ring_enqueue(entry, mbufs, UInt32(count)))
    if taken < count {
      cdpdk_free_bulk(mbufs + taken, UInt32(count &- taken))
      refused &+= count &- taken
    }
  }

  @inline(__always)
  private func intended(_ number: Int) -> UInt64 { start &+ UInt64(Double(number) * interval) }

  @inline(__always)
  private mutating func receive(_ mbufs: UnsafeMutablePointer<Mbuf?>) {
    let count = Int(cdpdk_ring_dequeue(exit, mbufs, UInt32(Self.burst)))
    guard count > 0 else { return }
    let now = cdpdk_cycles()
    last = now
    var i = 0
    while i < count {
      let data = mbufs[i].unsafelyUnwrapped.data
      let number = data.loadUnaligned(fromByteOffset: Self.stampOffset + 8, as: Int.self)
      if number > highest { highest = number } else { disordered &+= 1 }
      if received < capacity, let latencies {
        let cycles = now &- data.loadUnaligned(fromByteOffset: Self.stampOffset, as: UInt64.self)
        latencies[received] = UInt32(clamping: cycles)
      }
      received &+= 1
      i &+= 1
    }
    cdpdk_free_bulk(mbufs, UInt32(count))
  }
}

/// What the generator's lcore runs.
func generatorMain(_ context: UnsafeMutableRawPointer?) -> Int32 {
  context.unsafelyUnwrapped.assumingMemoryBound(to: PacedGenerator.self).pointee.run()
  return 0
}
