import Wire

/// What to do with packets that a route sends somewhere: one cache line, immutable once published. Made by the control
/// thread; read by any thread under RCU.
public struct Adjacency: Sendable {
  /// What a route leads to.
  public enum Kind: UInt8, Sendable, Codable, CaseIterable {
    /// Nothing matched: ICMP network unreachable.
    case noRoute = 0
    /// To the gateway itself. `port` is where the address lives, or `anyPort`.
    case local = 1
    /// To the directed broadcast address of the subnet on `port`, or to 255.255.255.255 (`anyPort`). For the host path
    /// if it came in there; never forwarded (RFC 2644).
    case broadcast = 2
    /// To a group. For the host path; not forwarded.
    case multicast = 3
    /// To a connected subnet, neighbour not known: resolve the destination itself on `port`.
    case glean = 4
    /// To the next hop on `port`: `state` says whether its Ethernet address is known.
    case forward = 5
    /// ICMP host unreachable (RFC 1812 5.2.7.1, as a kernel's route of that type says).
    case unreachable = 6
    /// ICMP administratively prohibited.
    case prohibit = 7
    /// Dropped in silence.
    case blackhole = 8
  }

  /// Whether the next hop's Ethernet address is known.
  public enum State: UInt8, Sendable, Codable {
    case incomplete = 0
    case reachable = 1
  }

  /// `port` of adjacencies that belong to none.
  public static let anyPort: UInt16 = 0xffff

  public let kind: Kind
  public let state: State
  /// The port that packets leave by.
  public let port: UInt16
  /// The largest IP packet, in bytes.
  public let mtu: UInt32
  /// Octets 0...7 and 6...13 of the Ethernet header, in memory order.
  public let headerStart: UInt64
  public let headerEnd: UInt64
  /// The next hop as `IPAddress.halves`; `nextHopFamily` 0: none, the destination is its own next hop.
  public let nextHopHigh: UInt64
  public let nextHopLow: UInt64
  public let nextHopFamily: UInt8

  // Rounds the record to the 64 bytes of a cache line.
  private let spare0: UInt8 = 0
  private let spare1: UInt16 = 0
  private let spare2: UInt32 = 0
  private let spare3: UInt64 = 0
  private let spare4: UInt64 = 0

  /// `local`, `broadcast`, `glean` and the kinds that drop.
  public init(kind: Kind, port: UInt16 = anyPort, mtu: UInt32 = 0) {
    self.kind = kind
    self.port = port
    self.mtu = mtu
    state = .incomplete
    (headerStart, headerEnd, nextHopHigh, nextHopLow, nextHopFamily) = (0, 0, 0, 0, 0)
  }

  /// `forward`. `carrying`: the packets' family, if it is not the next hop's: IPv4 may go by an IPv6 next hop (RFC 5549).
  /// `destination` nil: not resolved yet.
  public init(
    nextHop: IPAddress, carrying family: AddressFamily? = nil, port: UInt16, mtu: UInt32, source: MACAddress,
    destination: MACAddress?
  ) {
    kind = .forward
    state = destination == nil ? .incomplete : .reachable
    self.port = port
    self.mtu = mtu
    (nextHopHigh, nextHopLow) = nextHop.halves
    nextHopFamily = nextHop.family.rawValue
    let etherType: UInt64 = family ?? nextHop.family == .v4 ? 0x0800 : 0x86dd
    let to = destination?.rawValue ?? 0
    headerStart = (to << 16 | source.rawValue >> 32).bigEndian
    headerEnd = (source.rawValue << 16 | etherType).bigEndian
  }

  /// Writes the 14 octets of the Ethernet header.
  @inlinable @inline(__always) public func writeEthernetHeader(to packet: UnsafeMutableRawPointer) {
    packet.storeBytes(of: headerStart, as: UInt64.self)
    packet.storeBytes(of: headerEnd, toByteOffset: 6, as: UInt64.self)
  }

  /// The address to resolve, if it is not the destination itself.
  @inlinable public var nextHop: IPAddress? {
    AddressFamily(rawValue: nextHopFamily).map { IPAddress($0, high: nextHopHigh, low: nextHopLow) }
  }
}
