import Wire

/// One neighbour: a next hop and its MAC.
public struct NeighborStatus: Codable, Sendable, Hashable {
  public var address: IPAddress
  public var port: String
  /// Nil: not resolved.
  public var mac: MACAddress?
  /// `reachable`, `stale`, `incomplete`, `failed`, `permanent`: the kernel's words.
  public var state: String
  /// `kernel` or `static`.
  public var origin: String
  /// Packets that wait for it.
  public var queuedPackets: UInt32

  public init(
    address: IPAddress, port: String, mac: MACAddress?, state: String, origin: String, queuedPackets: UInt32 = 0
  ) {
    self.address = address
    self.port = port
    self.mac = mac
    self.state = state
    self.origin = origin
    self.queuedPackets = queuedPackets
  }

  enum CodingKeys: String, CodingKey {
    case address, port, mac, state, origin
    case queuedPackets = "queued_packets"
  }
}
