import Wire

/// An address as a rule has it: its bits are kept even beyond the length, and so is what was written.
public struct Host: Sendable, Hashable {
  public var address: IPAddress
  public var length: UInt8
  /// Written with a length, or `any`: the peer cannot be guessed from it, and IKE calls it a subnet.
  public var isNetwork: Bool
  /// As written, the name of an interface too; IKE sections are called after it.
  public var name: String

  public init(address: IPAddress, length: UInt8, isNetwork: Bool, name: String) {
    self.address = address
    self.length = length
    self.isNetwork = isNetwork
    self.name = name
  }

  /// One address.
  public init(_ address: IPAddress) {
    self.init(address: address, length: address.family.bits, isNetwork: false, name: "\(address)")
  }

  public init(_ prefix: IPPrefix) {
    self.init(address: prefix.address, length: prefix.length, isNetwork: !prefix.isHost, name: "\(prefix)")
  }

  /// 0.0.0.0/0 or ::/0.
  static func any(_ family: AddressFamily) -> Host {
    Host(address: .unspecified(family), length: 0, isNetwork: true, name: "\(IPPrefix.any(family))")
  }

  public var family: AddressFamily { address.family }
  /// The bits beyond the length cleared, as the kernel stores it.
  public var prefix: IPPrefix { IPPrefix(address, length: min(length, family.bits)) ?? IPPrefix(address) }
  /// As ipsecctl prints it: the length only if it is not that of a host.
  public var text: String { length == family.bits ? "\(address)" : "\(address)/\(length)" }
}

/// What stands in a list of hosts.
enum HostItem {
  case any
  case host(Host, sourceNAT: Host?)

  var family: AddressFamily? {
    switch self {
    case .any: nil
    case .host(let host, _): host.family
    }
  }
}
