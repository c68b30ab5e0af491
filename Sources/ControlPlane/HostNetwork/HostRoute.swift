import Wire

/// A route of the gateway's own that the kernel is to know too.
public struct HostRoute: Hashable, Sendable {
  public var prefix: IPPrefix
  /// Nil: the destinations are on the port's link.
  public var gateway: IPAddress?
  public var port: UInt16

  public init(prefix: IPPrefix, gateway: IPAddress?, port: UInt16) {
    self.prefix = prefix
    self.gateway = gateway
    self.port = port
  }
}
