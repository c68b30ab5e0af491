import Wire

/// An address with the length of the network it stands in; the host bits are kept.
public struct InterfaceAddress: Sendable, Hashable, LosslessStringConvertible {
  public var address: IPAddress
  /// 0...32 or 0...128.
  public let prefixLength: UInt8

  public init?(address: IPAddress, prefixLength: UInt8) {
    guard prefixLength <= address.family.bits else { return nil }
    self.address = address
    self.prefixLength = prefixLength
  }

  /// `ADDR/N`; without a length, nil.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress(String(parts[0])), parts[1].utf8.allSatisfy(\.isASCIIDigit),
      let length = UInt8(parts[1])
    else { return nil }
    self.init(address: address, prefixLength: length)
  }

  /// The network it stands in.
  public var network: IPPrefix { IPPrefix(address, length: prefixLength) ?? IPPrefix(address) }

  public var description: String { "\(address)/\(prefixLength)" }
}

/// One of `ports:`.
public struct Port: Sendable, Equatable {
  /// An interface name: at most 15 bytes. The TAP bears it too.
  public var name: String
  /// A PCI address, or a vdev as written for EAL's `--vdev`.
  public var device: String
  /// A TAP carries what the host must see.
  public var host = true
  public var addresses: [InterfaceAddress] = []
  /// The largest IP packet: 68...9600.
  public var mtu = 1500
  /// Set on the device; nil: the device's own.
  public var mac: MACAddress?
  /// Queue pairs; nil: one for each worker.
  public var queues: Int?
  /// Nil: what the gateway says for all.
  public var sourceCheck: GatewayConfiguration.SourceCheck?

  public init(name: String, device: String) {
    self.name = name
    self.device = device
  }

  /// The kernel's rules for an interface's name, and nothing that needs quoting.
  static func isValidName(_ name: String) -> Bool {
    (1...15).contains(name.utf8.count) && name != "." && name != ".."
      && name.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
  }
}
