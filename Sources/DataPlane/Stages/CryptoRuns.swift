import CLayout
import Engines

/// Hands jobs to their engines: neighbours with the same function go in one burst.
enum CryptoRuns {
  /// Job `i` belongs to packet `i` of `sealed`.
  @inline(__always)
  static func run(_ w: WorkerPointer, _ count: Int) {
    var start = 0
    while start < count {
      let burst = w.pointee.sealed[start].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped
      let address = unsafeBitCast(burst, to: UInt.self)
      var end = start &+ 1
      while end < count {
        let next = w.pointee.sealed[end].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped
        if unsafeBitCast(next, to: UInt.self) != address { break }
        end &+= 1
      }
      burst(w.pointee.jobs + start, end &- start)
      start = end
    }
  }
}
