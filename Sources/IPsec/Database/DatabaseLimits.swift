/// What the database allocates for and refuses beyond.
public struct DatabaseLimits: Sendable, Equatable {
  public var sas: Int
  public var policies: Int
  /// SPIs reserved by `allocateSPI` and not yet completed.
  public var larvalSAs: Int
  /// ACQUIREs without an answer, over all policies.
  public var acquires: Int
  /// ACQUIREs sent to the key daemons a second.
  public var acquiresPerSecond: Int
  /// Key schedules: SAs beyond have theirs made when a packet comes for them.
  public var schedules: Int

  public init(
    sas: Int = 65_536, policies: Int = 65_536, larvalSAs: Int = 4_096, acquires: Int = 4_096,
    acquiresPerSecond: Int = 1_000, schedules: Int = 65_536
  ) {
    self.sas = sas
    self.policies = policies
    self.larvalSAs = larvalSAs
    self.acquires = acquires
    self.acquiresPerSecond = acquiresPerSecond
    self.schedules = schedules
  }

  /// Slots that each worker's counters need: SAs and policies share one space, and those that were deleted keep theirs
  /// through the grace period. Slot 0 is nobody's.
  public var counterSlots: Int { (sas + policies) / 4 * 5 + 4_096 }
}
