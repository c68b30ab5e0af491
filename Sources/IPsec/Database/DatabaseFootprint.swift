/// What the SAs of a database take, apart from the control thread's own objects and the key schedules. In bytes.
public struct DatabaseFootprint: Sendable, Equatable {
  /// The records that workers read, those set aside for more SAs included.
  public var records: Int
  /// The SAD.
  public var index: Int
  /// Replay windows.
  public var windows: Int
}

extension SecurityDatabase {
  /// Control thread; looks at every SA.
  public var footprint: DatabaseFootprint {
    let words = entries.values.reduce(0) { sum, entry in
      guard let sa = entry.sa, sa.pointee.replay != nil else { return sum }
      return sum + Int(sa.pointee.replay_mask) + 1
    }
    return DatabaseFootprint(records: factory.slab.footprint, index: sad.footprint, windows: words * 8)
  }
}
