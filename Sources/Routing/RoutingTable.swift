import IPsec
import Wire

/// Bounds on what a routing table holds.
public struct RoutingLimits: Sendable {
  public var ports = 256
  public var routes = 1 << 20
  public var neighbors = 1 << 14
  public var adjacencies = 1 << 16
  /// Of the forwarding tries, 2112 bytes each.
  public var nodes = 1 << 18

  public init() {}
}

/// Interfaces, routes and neighbours from every source, and from them the `FIB` and the adjacencies that workers read.
/// A change touches the prefixes that it bears on; a change of an interface looks at all routes once.
///
/// Control thread, but for `fib`, `adjacencies` and `interfaces`, which any thread may copy and read under RCU.
public final class RoutingTable {
  public let limits: RoutingLimits
  public let fib: FIB
  public let adjacencies: AdjacencyTable
  public let interfaces: InterfaceTable

  let forwarding: ForwardingTable
  private let interfacePool: InterfacePool
  private var cache: AdjacencyCache
  private(set) var ports: [UInt16: Interface] = [:]
  private(set) var neighbors: NeighborTable
  /// All routes for a prefix, the preferred one first.
  private(set) var routes: [IPPrefix: [Route]] = [:]
  private var routeCount = 0
  private var installed: [IPPrefix: AdjacencyKey] = [:]
  /// Prefixes that a full table kept out of the FIB.
  private var deferred: Set<IPPrefix> = []

  /// Called when workers may find another answer than before, once for each change or batch of changes: after the tables
  /// say the new and before an adjacency's index is retired. Who keeps indices (flow caches) makes them void here, so
  /// that none outlives the grace period.
  public var onChange: (() -> Void)?
  private var batchDepth = 0
  private var isChanged = false
  private var released: [AdjacencyKey] = []

  public init(limits: RoutingLimits = RoutingLimits(), reclaimer: Reclaimer) {
    self.limits = limits
    forwarding = ForwardingTable(reclaimer: reclaimer, maximumNodes: limits.nodes)
    interfacePool = InterfacePool(capacity: limits.ports, reclaimer: reclaimer)
    cache = AdjacencyCache(capacity: limits.adjacencies, reclaimer: reclaimer)
    neighbors = NeighborTable(capacity: limits.neighbors)
    fib = forwarding.fib
    adjacencies = cache.pool.table
    interfaces = interfacePool.table
    for route in Self.wellKnown { try? add(route) }
  }

  /// What every router knows: groups, the limited broadcast, and that link-local addresses are not forwarded to but are
  /// the host path's business.
  private static let wellKnown: [Route] = [
    Route(IPPrefix("224.0.0.0/4")!, .multicast, source: .interface),
    Route(IPPrefix("255.255.255.255")!, .broadcast(port: nil), source: .interface),
    Route(IPPrefix("ff00::/8")!, .multicast, source: .interface),
    Route(IPPrefix("fe80::/10")!, .local(port: nil), source: .interface),
  ]

  // MARK: Batches

  /// Makes the changes of `body` one for `onChange`.
  public func batch<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    begin()
    defer { end() }
    return try body()
  }

  private func begin() { batchDepth += 1 }

  private func end() {
    batchDepth -= 1
    guard batchDepth == 0, isChanged else { return }
    isChanged = false
    onChange?()
    let due = released
    released = []
    for key in due { cache.release(key) }
  }

  // MARK: Interfaces

  public func interface(port: UInt16) -> Interface? { ports[port] }
  public var allInterfaces: [Interface] { ports.values.sorted { $0.port < $1.port } }

  /// Adds a port or changes what is known of it.
  public func set(_ interface: Interface) throws(RoutingError) {
    guard Int(interface.port) < limits.ports else {
      throw .invalid("port \(interface.port) is beyond the limit of \(limits.ports) ports")
    }
    let old = ports[interface.port]
    guard old != interface else { return }
    change(interface.port, from: old, to: interface)
  }

  /// The port's routes become inactive; its learned neighbours are forgotten.
  public func removeInterface(port: UInt16) {
    guard let old = ports[port] else { return }
    begin()
    defer { end() }
    for key in neighbors.entries.keys where key.port == port { removeNeighbor(key) }
    change(port, from: old, to: nil)
  }

  private func change(_ port: UInt16, from old: Interface?, to new: Interface?) {
    begin()
    defer { end() }
    isChanged = true
    ports[port] = new
    interfacePool.publish(new, port: port)
    let before = Set(Self.ownRoutes(of: old))
    let after = Set(Self.ownRoutes(of: new))
    for route in before.subtracting(after) { drop(route) }
    for route in after.subtracting(before) { insert(route) }
    cache.rewrite(port: port, make: record(for:))
    // Which way packets go depends on neither MTU nor MAC.
    guard old?.isUp != new?.isUp || old?.addresses != new?.addresses else { return }
    for prefix in prefixes(dependingOn: port).union(before.symmetricDifference(after).map(\.prefix)) {
      refreshOrDefer(prefix)
    }
    for key in Array(neighbors.entries.keys) { refreshOrDefer(IPPrefix(key.address)) }
  }

  /// Prefixes with a route through the port, or with a next hop that may be found on any port.
  private func prefixes(dependingOn port: UInt16) -> Set<IPPrefix> {
    Set(
      routes.lazy.filter { _, list in
        list.contains { route in
          if case .via(_, port: nil) = route.target { return true }
          return route.target.port == port
        }
      }.map(\.key))
  }

  /// What an interface's addresses mean: local, its subnet, its directed broadcast. Link-local IPv6 is well known.
  private static func ownRoutes(of interface: Interface?) -> [Route] {
    guard let interface else { return [] }
    let port = interface.port
    return interface.addresses.flatMap { entry -> [Route] in
      if case .v6(let address) = entry.address, Martian.isLinkLocal(address) { return [] }
      var routes = [Route(IPPrefix(entry.address), .local(port: port), source: .interface)]
      if !entry.prefix.isHost { routes.append(Route(entry.prefix, .connected(port: port), source: .interface)) }
      if let broadcast = entry.broadcast {
        routes.append(Route(IPPrefix(broadcast), .broadcast(port: port), source: .interface))
      }
      return routes
    }
  }

  // MARK: Routes

  public var count: Int { routeCount }

  /// All routes for exactly this prefix, the preferred one first.
  public func routes(for prefix: IPPrefix) -> [Route] { routes[prefix] ?? [] }

  /// Adds a route beside others for its prefix. Adding one that is there changes nothing.
  public func add(_ route: Route) throws(RoutingError) {
    try check(route)
    begin()
    defer { end() }
    guard routes[route.prefix]?.contains(route) != true else { return }
    guard routeCount < limits.routes else {
      throw .full("the routing table holds \(limits.routes) routes and has no room for \(route.prefix)")
    }
    insert(route)
    do throws(RoutingError) {
      try refresh(route.prefix)
    } catch {
      drop(route)
      refreshOrDefer(route.prefix)
      throw error
    }
    refreshNeighbors(under: route)
  }

  private func check(_ route: Route) throws(RoutingError) {
    if let port = route.target.port, Int(port) >= limits.ports {
      throw .invalid("route \(route.prefix): no port \(port)")
    }
    guard case .via(let nextHop, let port) = route.target else { return }
    guard !nextHop.isUnspecified, !Martian.isMulticast(nextHop) else {
      throw .invalid("route \(route.prefix): \(nextHop) cannot be a next hop")
    }
    if case .v6(let address) = nextHop, Martian.isLinkLocal(address), port == nil {
      throw .invalid("route \(route.prefix): the link-local next hop \(nextHop) needs a port")
    }
  }

  /// Returns false if exactly this route is not there.
  @discardableResult
  public func remove(_ route: Route) -> Bool {
    begin()
    defer { end() }
    guard drop(route) else { return false }
    refreshOrDefer(route.prefix)
    refreshNeighbors(under: route)
    for prefix in deferred.prefix(8) { refreshOrDefer(prefix) }
    return true
  }

  /// Makes the routes of one source exactly `wanted`, touching only what differs. Returns why some were refused.
  @discardableResult
  public func replaceRoutes(from source: RouteSource, with wanted: [Route]) -> [RoutingError] {
    begin()
    defer { end() }
    let target = Set(wanted.lazy.filter { $0.source == source })
    for route in routes.values.joined().filter({ $0.source == source && !target.contains($0) }) { remove(route) }
    var errors: [RoutingError] = []
    for route in target {
      do throws(RoutingError) { try add(route) } catch { errors.append(error) }
    }
    return errors
  }

  private func insert(_ route: Route) {
    var list = routes[route.prefix] ?? []
    guard !list.contains(route) else { return }
    list.insert(route, at: list.firstIndex { route.isPreferred(to: $0) } ?? list.count)
    routes[route.prefix] = list
    routeCount += 1
  }

  @discardableResult
  private func drop(_ route: Route) -> Bool {
    guard let place = routes[route.prefix]?.firstIndex(of: route) else { return false }
    routes[route.prefix]?.remove(at: place)
    if routes[route.prefix]?.isEmpty == true { routes[route.prefix] = nil }
    routeCount -= 1
    return true
  }

  // MARK: Neighbours

  /// A neighbour from the configuration; nil takes it back.
  public func setStaticNeighbor(_ key: NeighborKey, mac: MACAddress?) throws(RoutingError) {
    if let mac { try check(mac, of: key) }
    let changed = try neighbors.update(key) { $0.configured = mac }
    if changed { neighborChanged(key) }
  }

  /// What was learned of a neighbour. `mac` nil: it does not answer, or not yet.
  public func setNeighbor(_ key: NeighborKey, mac: MACAddress?, state: NeighborState) throws(RoutingError) {
    if let mac { try check(mac, of: key) }
    let changed = try neighbors.update(key) { ($0.learned, $0.learnedState) = (mac, state) }
    if changed { neighborChanged(key) }
  }

  /// Forgets what was learned of a neighbour.
  public func removeNeighbor(_ key: NeighborKey) {
    let changed = try? neighbors.update(key) { ($0.learned, $0.learnedState) = (nil, nil) }
    if changed == true { neighborChanged(key) }
  }

  /// Next hops of routes whose Ethernet address is not known: to be resolved before packets ask.
  public var unresolvedNextHops: [NeighborKey] { cache.nextHops.filter { neighbors.mac($0) == nil } }

  /// Whether a neighbour's Ethernet address is known.
  public func isResolved(_ key: NeighborKey) -> Bool { neighbors.mac(key) != nil }

  /// Whether some prefix leads to this neighbour.
  public func isNextHop(_ key: NeighborKey) -> Bool { cache.isNextHop(key) }

  private func check(_ mac: MACAddress, of key: NeighborKey) throws(RoutingError) {
    guard !mac.isMulticast, mac.rawValue != 0 else {
      throw .invalid("neighbour \(key.address): \(mac) is no station's address")
    }
  }

  private func neighborChanged(_ key: NeighborKey) {
    begin()
    defer { end() }
    isChanged = true
    cache.rewrite(nextHop: key, make: record(for:))
    refreshOrDefer(IPPrefix(key.address))
  }

  /// Neighbours have host routes only as long as no route but a connected one covers them: looks at them again if the
  /// route that changed is connected itself or lies in one that is.
  private func refreshNeighbors(under route: Route) {
    guard !neighbors.entries.isEmpty else { return }
    let prefix = route.prefix
    var bears = connectedCover(of: prefix) != nil
    for other in [route] + (routes[prefix] ?? []) {
      if case .connected = other.target { bears = true }
    }
    guard bears else { return }
    for key in Array(neighbors.entries.keys) where prefix.contains(key.address) {
      refreshOrDefer(IPPrefix(key.address))
    }
  }

  // MARK: From routes to the FIB

  /// Makes the FIB say of a prefix what the routes say now. `full` leaves it as it was.
  private func refresh(_ prefix: IPPrefix) throws(RoutingError) {
    let wanted = selected(prefix)?.key ?? neighborKey(for: prefix)
    let present = installed[prefix]
    deferred.remove(prefix)
    guard wanted != present else { return }
    if let wanted {
      let index = try cache.acquire(wanted) { record(for: wanted) }
      do throws(RoutingError) {
        try forwarding.insert(prefix, adjacency: index)
      } catch {
        cache.release(wanted)
        throw error
      }
    } else {
      forwarding.remove(prefix)
    }
    installed[prefix] = wanted
    isChanged = true
    if let present { released.append(present) }
  }

  /// For changes that cannot be refused: what finds no room is kept in mind and shown as inactive.
  private func refreshOrDefer(_ prefix: IPPrefix) {
    do throws(RoutingError) { try refresh(prefix) } catch { deferred.insert(prefix) }
  }

  /// The preferred route for a prefix that can be used, and the adjacency it leads to.
  private func selected(_ prefix: IPPrefix) -> (route: Route, key: AdjacencyKey)? {
    for route in routes[prefix] ?? [] {
      if let key = key(for: route) { return (route, key) }
    }
    return nil
  }

  /// Where a route leads; nil: nowhere as things are.
  private func key(for route: Route) -> AdjacencyKey? {
    switch route.target {
    case .via(let nextHop, let port):
      guard let port = port ?? self.port(towards: nextHop), ports[port]?.isUp == true else { return nil }
      let variant = AdjacencyKey.Variant(family: route.prefix.family, mtu: route.mtu)
      return .nextHop(NeighborKey(port: port, address: nextHop), variant)
    case .connected(let port): return ports[port]?.isUp == true ? .glean(port: port, mtu: route.mtu) : nil
    case .local(let port): return .local(port: port ?? Adjacency.anyPort)
    case .broadcast(let port): return .broadcast(port: port ?? Adjacency.anyPort)
    case .multicast: return .multicast
    case .unreachable: return .drop(.unreachable)
    case .prohibit: return .drop(.prohibit)
    case .blackhole: return .drop(.blackhole)
    }
  }

  /// The port of the narrowest connected subnet that holds a next hop which is not the gateway itself.
  private func port(towards nextHop: IPAddress) -> UInt16? {
    var best: (length: UInt8, port: UInt16)?
    for interface in ports.values where interface.isUp {
      for entry in interface.addresses where entry.prefix.contains(nextHop) {
        if entry.address == nextHop { return nil }
        let candidate = (length: entry.length, port: interface.port)
        if let best, (best.length, candidate.port) > (candidate.length, best.port) { continue }
        best = candidate
      }
    }
    return best?.port
  }

  /// The adjacency of the neighbour that a host prefix names, if the routes say that it is on its port's link.
  private func neighborKey(for prefix: IPPrefix) -> AdjacencyKey? {
    guard prefix.isHost, let (cover, mtu) = connectedCover(of: prefix) else { return nil }
    let key = NeighborKey(port: cover, address: prefix.address)
    return neighbors.mac(key) == nil ? nil : .nextHop(key, AdjacencyKey.Variant(family: prefix.family, mtu: mtu))
  }

  /// The port and MTU of the connected route that an address without a route of its own falls under.
  private func connectedCover(of prefix: IPPrefix) -> (port: UInt16, mtu: UInt32)? {
    var length = prefix.length
    while length > 0 {
      length -= 1
      guard let shorter = IPPrefix(prefix.address, length: length), let (_, key) = selected(shorter) else { continue }
      if case .glean(let port, let mtu) = key { return (port, mtu) }
      return nil
    }
    return nil
  }

  /// What the record of a key holds now.
  private func record(for key: AdjacencyKey) -> Adjacency {
    let interface = key.port.flatMap { ports[$0] }
    let own = interface?.mtu ?? 0
    func limited(_ mtu: UInt32) -> UInt32 { mtu == 0 ? own : min(mtu, own) }
    switch key {
    case .local(let port): return Adjacency(kind: .local, port: port, mtu: own)
    case .broadcast(let port): return Adjacency(kind: .broadcast, port: port, mtu: own)
    case .multicast: return Adjacency(kind: .multicast)
    case .drop(let kind): return Adjacency(kind: kind)
    case .glean(let port, let mtu): return Adjacency(kind: .glean, port: port, mtu: limited(mtu))
    case .nextHop(let neighbor, let variant):
      return Adjacency(
        nextHop: neighbor.address, carrying: variant.family, port: neighbor.port, mtu: limited(variant.mtu),
        source: interface?.mac ?? MACAddress(rawValue: 0), destination: neighbors.mac(neighbor))
    }
  }

  // MARK: Records

  /// All routes in order of prefix, the preferred one first.
  public func routeRecords() -> [RouteRecord] {
    routes.keys.sorted().flatMap { prefix -> [RouteRecord] in
      let active = deferred.contains(prefix) ? nil : selected(prefix)?.route
      return (routes[prefix] ?? []).map { record(of: $0, active: active) }
    }
  }

  private func record(of route: Route, active: Route?) -> RouteRecord {
    let key = key(for: route)
    let port = key?.port ?? route.target.port
    var isResolved = true
    if case .nextHop(let neighbor, _) = key { isResolved = neighbors.mac(neighbor) != nil }
    if case .via = route.target, key == nil { isResolved = false }
    return RouteRecord(
      route: route, port: port == Adjacency.anyPort ? nil : port, portName: port.flatMap { ports[$0]?.name },
      isActive: route == active, isResolved: isResolved)
  }

  /// All neighbours in order of port and address.
  public func neighborRecords() -> [NeighborRecord] {
    neighbors.entries.map { key, entry in
      NeighborRecord(key: key, portName: ports[key.port]?.name, mac: entry.mac, state: entry.state)
    }.sorted { ($0.key.port, $0.key.address) < ($1.key.port, $1.key.address) }
  }
}
