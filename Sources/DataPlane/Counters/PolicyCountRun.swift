import CLayout
import IPsec

/// Adds up what consecutive packets of one policy did.
struct PolicyCountRun {
  private var policy: UnsafeMutablePointer<gw_policy>?
  private var packets = 0
  private var bytes = 0

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func add(_ w: WorkerPointer, _ next: UnsafeMutablePointer<gw_policy>, bytes length: Int) {
    if next != policy {
      flush(w)
      policy = next
      packets = 0
      bytes = 0
    }
    packets &+= 1
    bytes &+= length
  }

  @inline(__always)
  mutating func flush(_ w: WorkerPointer) {
    guard let policy, packets > 0 else { return }
    w.pointee.counters.add(
      slot: policy.pointee.slot, packets: UInt64(packets), bytes: UInt64(bytes), now: w.pointee.now)
    packets = 0
  }
}
