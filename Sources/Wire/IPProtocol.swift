/// IP protocol numbers that the gateway looks at.
public enum IPProtocol {
  public static let hopByHop: UInt8 = 0
  public static let icmp: UInt8 = 1
  public static let igmp: UInt8 = 2
  public static let ipip: UInt8 = 4
  public static let tcp: UInt8 = 6
  public static let udp: UInt8 = 17
  public static let dccp: UInt8 = 33
  public static let ipv6: UInt8 = 41
  public static let routing: UInt8 = 43
  public static let fragment: UInt8 = 44
  public static let gre: UInt8 = 47
  public static let esp: UInt8 = 50
  public static let ah: UInt8 = 51
  public static let icmpv6: UInt8 = 58
  public static let noNextHeader: UInt8 = 59
  public static let destinationOptions: UInt8 = 60
  public static let etherIP: UInt8 = 97
  public static let ipcomp: UInt8 = 108
  public static let sctp: UInt8 = 132
  public static let mobility: UInt8 = 135
  public static let udpLite: UInt8 = 136
}

/// What selectors call ports (RFC 4301 4.4.1.1): ports, ICMP's type and code, or a Mobility header's type.
public struct TransportPorts: Equatable, Sendable {
  public var source: UInt16
  public var destination: UInt16

  @inlinable public init(source: UInt16, destination: UInt16) {
    self.source = source
    self.destination = destination
  }

  /// Packets of this protocol have ports, or what stands for them.
  public static func exist(in ipProtocol: UInt8) -> Bool {
    switch ipProtocol {
    case IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp, IPProtocol.dccp, IPProtocol.udpLite, IPProtocol.icmp,
      IPProtocol.icmpv6, IPProtocol.mobility:
      true
    default: false
    }
  }

  /// Reads them from the first bytes of the upper-layer header. Nil: the protocol has none, or `length` bytes do not
  /// reach them.
  @inlinable @inline(__always)
  public init?(ipProtocol: UInt8, _ base: UnsafeRawPointer, length: Int) {
    switch ipProtocol {
    case IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp, IPProtocol.dccp, IPProtocol.udpLite:
      guard length >= 4 else { return nil }
      self.init(source: base.big16(at: 0), destination: base.big16(at: 2))
    case IPProtocol.icmp, IPProtocol.icmpv6:
      guard length >= 2 else { return nil }
      self.init(source: UInt16(base.byte(at: 0)), destination: UInt16(base.byte(at: 1)))
    case IPProtocol.mobility:
      guard length >= 3 else { return nil }
      self.init(source: UInt16(base.byte(at: 2)), destination: 0)
    default: return nil
    }
  }
}
