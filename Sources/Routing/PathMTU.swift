import Wire

/// Path MTUs learned from ICMP (RFC 1191, RFC 8201), bounded and ageing. What may be believed is the caller's to decide;
/// here nothing goes below the floor, and only a lower value or time changes an entry. Control thread; times are
/// nanoseconds of a steady clock.
public struct PathMTU {
  /// The least that is believed: every IPv4 host takes 576 bytes (RFC 791), every IPv6 link 1280 (RFC 8200 5).
  public static func floor(_ family: AddressFamily) -> UInt32 { family == .v4 ? 576 : 1280 }

  /// A value is forgotten after ten minutes, so that a path that grew is noticed (RFC 1191 6.3, RFC 8201 4).
  public static let lifetime: UInt64 = 600 * 1_000_000_000

  public struct Record: Hashable, Sendable {
    public var destination: IPAddress
    public var mtu: UInt32
    /// When it is forgotten, on the caller's clock.
    public var expires: UInt64
  }

  public let capacity: Int
  private var entries: [IPAddress: Record] = [:]

  public init(capacity: Int = 4096) { self.capacity = capacity }

  public var count: Int { entries.count }

  /// The path's MTU if one was learned and has not aged.
  public func mtu(to destination: IPAddress, now: UInt64) -> UInt32? {
    guard let entry = entries[destination], entry.expires > now else { return nil }
    return entry.mtu
  }

  /// An ICMP error said that only `reported` bytes pass. Zero, as routers before RFC 1191 say it, takes the next plateau
  /// below `packetLength`. Returns the MTU to use from now on if that is news, else nil.
  public mutating func lower(
    _ destination: IPAddress, reported: UInt32, packetLength: UInt32, now: UInt64
  ) -> UInt32? {
    let said = reported == 0 ? Self.plateau(below: packetLength) : reported
    let mtu = max(said, Self.floor(destination.family))
    // An error about a packet that is no longer than that is no reason to shrink (RFC 8201 4).
    guard mtu < max(packetLength, 1) else { return nil }
    let present = self.mtu(to: destination, now: now)
    if let present, present <= mtu {
      if present == mtu { entries[destination]?.expires = now &+ Self.lifetime }
      return nil
    }
    if entries[destination] == nil, entries.count >= capacity { evict() }
    entries[destination] = Record(destination: destination, mtu: mtu, expires: now &+ Self.lifetime)
    return mtu
  }

  /// Forgets what has aged and returns the destinations whose MTU may grow again.
  public mutating func expire(now: UInt64) -> [IPAddress] {
    let aged = entries.values.filter { $0.expires <= now }.map(\.destination)
    for destination in aged { entries[destination] = nil }
    return aged
  }

  /// In order of destination.
  public func records() -> [Record] { entries.values.sorted { $0.destination < $1.destination } }

  private mutating func evict() {
    guard let oldest = entries.values.min(by: { $0.expires < $1.expires }) else { return }
    entries[oldest.destination] = nil
  }

  /// RFC 1191 7.1.
  static func plateau(below length: UInt32) -> UInt32 {
    [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296].first { $0 < length } ?? 68
  }
}
