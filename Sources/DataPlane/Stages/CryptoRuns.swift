import CLayout
import Engines

/// Hands jobs to their engines: neighbours with the same function go in one burst.
enum CryptoRuns {
  /// Job `i` belongs to packet `i` of `sealed`.
  @inline(__always)
  static func run(_ w: WorkerPointer, _ count: Int) { run(w.pointee.jobs, w.pointee.sealed, count) }

  /// Job `i` belongs to packet `i`.
  @inline(__always)
  static func run(_ jobs: UnsafeMutablePointer<CryptoJob>, _ packets: PacketList, _ count: Int) {
    var start = 0
    while start < count {
      let burst = packets[start].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped
      let address = unsafeBitCast(burst, to: UInt.self)
      var end = start &+ 1
      while end < count {
        let next = packets[end].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped
        if unsafeBitCast(next, to: UInt.self) != address { break }
        end &+= 1
      }
      burst(jobs + start, end &- start)
      start = end
    }
  }
}
