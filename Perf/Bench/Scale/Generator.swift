import CDPDK
import DPDK
import DataPlane
import Foundation
import Synchronization

/// Fills a `net_ring` port, whose transmitted frames come back as received ones, with copies of frames in random order,
/// on a thread and core of its own.
final class Generator: @unchecked Sendable {
  private let frames: Frames
  private let port: UInt16
  private let pool: OpaquePointer
  private let core: Int
  private let isStopped = Atomic<Bool>(false)
  private let isDone = DispatchSemaphore(value: 0)
  private static let burst = 32

  init(_ frames: Frames, port: EthernetPort, pool: Mempool, core: Int) {
    self.frames = frames
    self.port = port.id
    self.pool = pool.base
    self.core = core
  }

  func start() {
    let thread = Thread { [self] in
      pin()
      run()
      isDone.signal()
    }
    thread.stackSize = 1 << 20
    thread.start()
  }

  /// Returns when nothing more comes.
  func stop() {
    isStopped.store(true, ordering: .relaxed)
    isDone.wait()
  }

  private func pin() {
    var mask = [UInt64](repeating: 0, count: 16)
    mask[core / 64] = 1 << UInt64(core % 64)
    _ = cdpdk_affinity_set(mask, 16)
  }

  private func run() {
    let burst = Self.burst
    withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<cdpdk_mbuf>?.self, capacity: burst) { buffers in
      withUnsafeTemporaryAllocation(of: Int.self, capacity: burst) { next in
        guard let mbufs = buffers.baseAddress, let next = next.baseAddress else { return }
        next.initialize(repeating: 0, count: burst)
        var order = RandomOrder()
        var rounds = 0
        while !isStopped.load(ordering: .relaxed) {
          // Under a real-time priority others of the same would wait for its time slice to end.
          rounds &+= 1
          if rounds & 63 == 0 { sched_yield() }
          guard cdpdk_alloc_bulk(pool, mbufs, UInt32(burst)) == 0 else { continue }
          var i = 0
          while i < burst {
            let mbuf = mbufs[i].unsafelyUnwrapped
            mbuf.data.copyMemory(from: frames.base + next[i], byteCount: frames.length)
            mbuf.setLength(frames.length)
            // What comes in the next burst is fetched during this one.
            next[i] = order.next(below: frames.count) &* frames.stride
            var line = 0
            while line < frames.length {
              cdpdk_prefetch(frames.base + next[i] + line)
              line &+= 64
            }
            i &+= 1
          }
          send(mbufs)
        }
      }
    }
  }

  @inline(__always)
  private func send(_ mbufs: UnsafeMutablePointer<UnsafeMutablePointer<cdpdk_mbuf>?>) {
    var sent = 0
    while sent < Self.burst {
      sent += Int(cdpdk_tx_burst(port, 0, mbufs + sent, UInt16(Self.burst - sent)))
      if sent < Self.burst {
        rte_pause()
        if isStopped.load(ordering: .relaxed) {
          cdpdk_free_bulk(mbufs + sent, UInt32(Self.burst - sent))
          return
        }
      }
    }
  }
}
