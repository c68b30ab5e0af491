/// A key socket, as its clients and the gateway get on. Counters since the start.
public struct KeySocketStatus: Codable, Sendable, Hashable {
  /// `xfrm` or `pfkey`.
  public var name: String
  /// Open connections.
  public var clients: Int = 0
  public var accepted: UInt64 = 0
  /// Turned away: not root's, or more than a process or the socket may have.
  public var turnedAway: UInt64 = 0
  /// Requests answered with an error.
  public var refusedRequests: UInt64 = 0
  /// Not delivered, as their reader lagged too far behind.
  public var droppedNotices: UInt64 = 0
  /// Connections closed because their answers were not read.
  public var overfull: UInt64 = 0

  public init(name: String) { self.name = name }

  enum CodingKeys: String, CodingKey {
    case name, clients, accepted, overfull
    case turnedAway = "turned_away"
    case refusedRequests = "refused_requests"
    case droppedNotices = "dropped_notices"
  }
}
