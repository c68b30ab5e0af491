import Wire

/// One of `routes:`, besides those learned from the kernel. At least one of `via` and `port` is there.
public struct StaticRoute: Sendable, Equatable {
  public var to: IPPrefix
  public var via: IPAddress?
  /// The destinations are on this port's link, or `via` is.
  public var port: String?

  public init(to: IPPrefix, via: IPAddress? = nil, port: String? = nil) {
    self.to = to
    self.via = via
    self.port = port
  }
}

/// One of `neighbors:`, besides those learned.
public struct StaticNeighbor: Sendable, Equatable {
  public var port: String
  public var address: IPAddress
  public var mac: MACAddress

  public init(port: String, address: IPAddress, mac: MACAddress) {
    self.port = port
    self.address = address
    self.mac = mac
  }
}
