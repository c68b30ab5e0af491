/// A limit or a count of use, as PF_KEY's sadb_lifetime and XFRM's lifetime_cfg. 0: no limit.
public struct Lifetime: Hashable, Sendable {
  /// OpenBSD's and RFC 2367's "allocations": how many packets (XFRM) or flows may use the SA.
  public var packets: UInt64
  public var bytes: UInt64
  /// Seconds since the SA was added.
  public var addTime: UInt64
  /// Seconds since it was first used.
  public var useTime: UInt64

  public init(packets: UInt64 = 0, bytes: UInt64 = 0, addTime: UInt64 = 0, useTime: UInt64 = 0) {
    self.packets = packets
    self.bytes = bytes
    self.addTime = addTime
    self.useTime = useTime
  }

  public static let unlimited = Lifetime()
}

/// What an SA or policy has done so far. Times are wall-clock seconds since the epoch; 0: never.
public struct Usage: Hashable, Sendable {
  public var packets: UInt64 = 0
  public var bytes: UInt64 = 0
  public var added: UInt64 = 0
  public var firstUsed: UInt64 = 0
  public var lastUsed: UInt64 = 0
  public init() {}
}
