import CLayout
import Engines

/// Hands jobs to their engines: neighbours with the same function go in one burst.
enum CryptoRuns {
  /// Job `i` belongs to packet `i` of `jobPackets`.
  @inline(__always)
  static func run(_ w: WorkerPointer, _ count: Int) { run(w.pointee.jobs, w.pointee.jobPackets, count) }

  /// Job `i` belongs to packet `i`.
  @inline(__always)
  static func run(_ jobs: UnsafeMutablePointer<CryptoJob>, _ packets: PacketList, _ count: Int) {
    each(jobs, count) { packets[$0].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped }
  }

  /// Jobs that name their function themselves.
  @inline(__always)
  static func run(_ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int) {
    each(jobs, count) { jobs[$0].run.unsafelyUnwrapped }
  }

  @inline(__always)
  private static func each(
    _ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int, _ function: (_ index: Int) -> crypto_burst
  ) {
    var start = 0
    while start < count {
      let burst = function(start)
      let address = unsafeBitCast(burst, to: UInt.self)
      var end = start &+ 1
      while end < count, unsafeBitCast(function(end), to: UInt.self) == address { end &+= 1 }
      burst(jobs + start, end &- start)
      start = end
    }
  }
}
