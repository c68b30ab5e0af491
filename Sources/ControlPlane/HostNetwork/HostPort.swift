import Routing
import Wire

/// A port whose TAP the kernel sees, and what the configuration wants of it.
public struct HostPort: Hashable, Sendable {
  public var port: UInt16
  /// The TAP's name.
  public var name: String
  public var mac: MACAddress
  public var mtu: UInt32
  public var addresses: [LocalAddress]
  /// Whether the port's own link is up.
  public var isLinkUp: Bool

  public init(
    port: UInt16, name: String, mac: MACAddress, mtu: UInt32, addresses: [LocalAddress], isLinkUp: Bool = true
  ) {
    self.port = port
    self.name = name
    self.mac = mac
    self.mtu = mtu
    self.addresses = addresses
    self.isLinkUp = isLinkUp
  }
}
