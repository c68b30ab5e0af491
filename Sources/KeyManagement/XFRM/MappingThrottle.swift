import Glibc
import IPsec

/// MTIMER_THRESH: at the most one MAPPING event of an SA in so many seconds. Control thread.
final class MappingThrottle {
  private static let limit = 4096
  private var last: [SAIdentifier: UInt64] = [:]

  func mayAnnounce(_ id: SAIdentifier, threshold: UInt32) -> Bool {
    guard threshold > 0 else { return true }
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    let seconds = UInt64(now.tv_sec)
    if let before = last[id], seconds < before + UInt64(threshold) { return false }
    if last.count >= Self.limit { last.removeAll() }
    last[id] = seconds
    return true
  }
}
