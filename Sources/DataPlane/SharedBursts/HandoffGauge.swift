/// Whether handing bursts pays. It depends on the machine: lines go to another core and come back, which on cores that
/// share a cache is nearly free, and on cores of two chiplets costs more than opening small packets. So the lead measures
/// both ways by turns, and goes the cheaper one. The lead's own; only rounds in which it could hand are told.
struct HandoffGauge {
  /// Packets that are measured together, after others that find the lines where the other way has left them.
  private static var measured: UInt64 { 4096 }
  private static var skipped: UInt64 { 1024 }
  /// Every so many measurements the other way is tried.
  private static var interval: UInt32 { 32 }

  private(set) var isHanding = true
  /// Cycles for `measured` packets; 0: not known.
  private var handing: UInt64 = 0
  private var alone: UInt64 = 0
  private var packets: UInt64 = 0
  private var cycles: UInt64 = 0
  private var measurements: UInt32 = 0

  /// What `packets` of a round took.
  @inline(__always)
  mutating func note(cycles: UInt64, packets: Int) {
    let before = self.packets
    self.packets &+= UInt64(truncatingIfNeeded: packets)
    if before < Self.skipped { return }
    self.cycles &+= cycles
    if self.packets >= Self.skipped &+ Self.measured { decide(self.packets &- Self.skipped) }
  }

  @inline(never)
  private mutating func decide(_ count: UInt64) {
    let cost = max(1, cycles &* Self.measured / max(1, count))
    if isHanding { handing = cost } else { alone = cost }
    measurements &+= 1
    let better = handing < alone
    if alone == 0 {
      isHanding = false
    } else {
      isHanding = measurements % Self.interval == 0 ? !better : better
    }
    packets = 0
    cycles = 0
  }
}
