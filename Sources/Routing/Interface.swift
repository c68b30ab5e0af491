import Wire

/// An address of the gateway with the length of the subnet that it stands in.
public struct LocalAddress: Hashable, Sendable, LosslessStringConvertible {
  public let address: IPAddress
  public let length: UInt8

  /// Nil: the length is too long for the family.
  public init?(_ address: IPAddress, length: UInt8) {
    guard length <= address.family.bits else { return nil }
    self.address = address
    self.length = length
  }

  /// `ADDR/N`, or `ADDR` for a host address.
  public init?(_ text: String) {
    guard let prefix = IPPrefix(text), let address = IPAddress(String(text.prefix { $0 != "/" })) else { return nil }
    self.init(address, length: prefix.length)
  }

  public var prefix: IPPrefix { IPPrefix(address, length: length)! }

  public var description: String { "\(address)/\(length)" }

  /// The directed broadcast address of an IPv4 subnet; /31 and /32 have none (RFC 3021).
  public var broadcast: IPAddress? {
    guard case .v4(let own) = address, length < 31 else { return nil }
    return .v4(IPv4Address(rawValue: own.rawValue | UInt32.max >> UInt32(length)))
  }
}

/// A port as routing sees it. Control thread.
public struct Interface: Hashable, Sendable {
  public var port: UInt16
  public var name: String
  public var mac: MACAddress
  /// The largest IP packet, in bytes.
  public var mtu: UInt32
  /// Down: its subnets and the routes through it are withdrawn; its addresses stay the gateway's.
  public var isUp: Bool
  public var addresses: [LocalAddress]

  public init(
    port: UInt16, name: String, mac: MACAddress, mtu: UInt32 = 1500, isUp: Bool = true,
    addresses: [LocalAddress] = []
  ) {
    self.port = port
    self.name = name
    self.mac = mac
    self.mtu = mtu
    self.isUp = isUp
    self.addresses = addresses
  }

  /// The subnet on this port that an address belongs to.
  func subnet(of address: IPAddress) -> LocalAddress? { addresses.first { $0.prefix.contains(address) } }
}
