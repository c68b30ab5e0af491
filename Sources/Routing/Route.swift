import Wire

/// Where a route comes from. Among routes for one prefix the lowest wins, then the lowest metric.
public enum RouteSource: UInt8, Sendable, Hashable, Comparable, CaseIterable {
  /// The gateway's own addresses and subnets, and what every router knows.
  case interface
  case configuration
  case kernel
  /// A neighbour on a connected subnet.
  case neighbor

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// What a route does with its packets.
public enum RouteTarget: Hashable, Sendable {
  /// To a next hop. Without a port the next hop is looked for on the connected subnets.
  case via(IPAddress, port: UInt16?)
  /// The destination itself is on the port's link.
  case connected(port: UInt16)
  /// The gateway itself; without a port, whichever the packet came in by.
  case local(port: UInt16?)
  case broadcast(port: UInt16?)
  case multicast
  case unreachable
  case prohibit
  case blackhole
}

public struct Route: Hashable, Sendable {
  public var prefix: IPPrefix
  public var target: RouteTarget
  public var source: RouteSource
  public var metric: UInt32
  /// In bytes; 0: that of the port.
  public var mtu: UInt32

  public init(
    _ prefix: IPPrefix, _ target: RouteTarget, source: RouteSource = .configuration, metric: UInt32 = 0, mtu: UInt32 = 0
  ) {
    self.prefix = prefix
    self.target = target
    self.source = source
    self.metric = metric
    self.mtu = mtu
  }

  /// Preferred over another route for the same prefix. Total, so that the order of arrival does not matter.
  func isPreferred(to other: Route) -> Bool {
    let mine = (source, rank, metric, target.port ?? .max)
    let others = (other.source, other.rank, other.metric, other.target.port ?? .max)
    if mine != others { return mine < others }
    if target.order != other.target.order { return target.order < other.target.order }
    return mtu < other.mtu
  }

  /// Own addresses before subnets.
  private var rank: UInt8 {
    switch target {
    case .local: 0
    case .broadcast: 1
    default: 2
    }
  }
}

extension RouteTarget {
  /// Tells apart targets that are alike in all that says which is better: those that carry packets first.
  fileprivate var order: (UInt8, UInt64, UInt64) {
    switch self {
    case .local: (0, 0, 0)
    case .connected: (1, 0, 0)
    case .via(let address, _): (address.family == .v4 ? 2 : 3, address.halves.0, address.halves.1)
    case .broadcast: (4, 0, 0)
    case .multicast: (5, 0, 0)
    case .unreachable: (6, 0, 0)
    case .prohibit: (7, 0, 0)
    case .blackhole: (8, 0, 0)
    }
  }

  public var port: UInt16? {
    switch self {
    case .via(_, let port), .local(let port), .broadcast(let port): port
    case .connected(let port): port
    case .multicast, .unreachable, .prohibit, .blackhole: nil
    }
  }
}

/// A route as `gwctl show routes` prints it.
public struct RouteRecord: Hashable, Sendable {
  public var route: Route
  /// The next hop's port after recursion.
  public var port: UInt16?
  public var portName: String?
  /// The route that packets follow, among those for its prefix.
  public var isActive: Bool
  /// The next hop's Ethernet address is known; true where none is needed.
  public var isResolved: Bool
}
