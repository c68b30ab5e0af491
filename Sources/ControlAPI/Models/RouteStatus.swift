import Wire

/// One entry of the FIB.
public struct RouteStatus: Codable, Sendable, Hashable {
  public var destination: IPPrefix
  /// Nil: on link.
  public var gateway: IPAddress?
  public var port: String
  /// `kernel`, `static` (gateway.yaml) or `connected`.
  public var origin: String
  public var metric: UInt32
  public var mtuBytes: UInt32?
  /// Whether the next hop's MAC is known; nil: not asked for yet.
  public var resolved: Bool?

  public init(
    destination: IPPrefix, gateway: IPAddress?, port: String, origin: String, metric: UInt32 = 0,
    mtuBytes: UInt32? = nil, resolved: Bool? = nil
  ) {
    self.destination = destination
    self.gateway = gateway
    self.port = port
    self.origin = origin
    self.metric = metric
    self.mtuBytes = mtuBytes
    self.resolved = resolved
  }

  enum CodingKeys: String, CodingKey {
    case destination, gateway, port, origin, metric, resolved
    case mtuBytes = "mtu_bytes"
  }
}
