import CLinux
import Glibc
import Routing
import Wire

/// Keeps the routing table in step with the kernel for the ports that have a TAP: links, addresses, routes of the tables
/// main and local, neighbours; and has the kernel resolve and confirm the neighbours that the data path uses.
///
/// Control thread. The owner's event loop calls `handleReadable` when `descriptor` is readable, and `tick` about once a
/// second.
public final class HostNetwork {
  /// What is asked of the kernel in one tick at most.
  private static let requestsPerTick = 64
  /// Nanoseconds before the same neighbour is asked for again.
  private static let retryInterval: UInt64 = 300_000_000
  /// Datagrams read before the loop gets its turn.
  private static let readingsPerTurn = 64

  private let routing: RoutingTable
  private let netlink: RouteNetlink
  private var ports: [UInt16: Attached] = [:]
  private var portOfIndex: [Int32: UInt16] = [:]
  /// When each was asked for; forgotten once its time is over.
  private var asked: [NeighborKey: UInt64] = [:]
  private var stale: Set<NeighborKey> = []
  /// The kernel drops IPv4 routes without a word when a link or an address goes.
  private var routesMayDiffer = false
  private var severalNextHops: Set<IPPrefix> = []
  /// What the kernel routes and the gateway cannot: told of once, until the route goes.
  private var refused: Set<IPPrefix> = []
  private static let refusalsTold = 64

  /// Told in words what the kernel's tables have and the gateway cannot do. Control thread.
  public var onRefusal: ((String) -> Void)?

  private struct Attached {
    var configured: HostPort
    var index: Int32
    var isUp: Bool
    var kernelMTU: UInt32
    var kernelAddresses: [LocalAddress] = []
  }

  private var routesGiven: [HostRoute] = []

  public init(routing: RoutingTable) throws(HostNetworkError) {
    self.routing = routing
    netlink = try RouteNetlink()
  }

  /// For epoll: readable when the kernel has news.
  public var descriptor: Int32 { netlink.descriptor }

  // MARK: Ports

  /// Takes a port over, or its new configuration: sets the TAP's MTU, Ethernet address and addresses, brings it up and
  /// reads what the kernel knows of it. Addresses that others have set stay; those that the configuration gave before and
  /// gives no more are removed. Returns what could not be set; the port works with what could.
  public func attach(_ port: HostPort) throws(HostNetworkError) -> [HostNetworkError] {
    let index = Int32(bitPattern: if_nametoindex(port.name))
    guard index != 0 else { throw .noInterface(port.name) }
    var errors: [HostNetworkError] = []
    func attempt(_ body: () throws(HostNetworkError) -> Void) {
      do throws(HostNetworkError) { try body() } catch { errors.append(error) }
    }
    let before = ports[port.port]
    attempt { () throws(HostNetworkError) in
      try configureLink(port, index: index)
    }
    let old = before?.index == index ? before?.configured.addresses ?? [] : []
    for address in old where !port.addresses.contains(address) {
      attempt { () throws(HostNetworkError) in try netlink.remove(address, from: index, name: port.name) }
    }
    for address in port.addresses {
      attempt { () throws(HostNetworkError) in try netlink.add(address, to: index, name: port.name) }
    }
    if let before { portOfIndex[before.index] = nil }
    portOfIndex[index] = port.port
    ports[port.port] = Attached(configured: port, index: index, isUp: true, kernelMTU: port.mtu)
    try synchronize()
    return errors
  }

  /// The Ethernet address is changed only if it differs: some drivers want the link down for it.
  private func configureLink(_ port: HostPort, index: Int32) throws(HostNetworkError) {
    let links = try netlink.dump(Int(RTM_GETLINK))
    var present: KernelLink?
    for case .link(let link, _) in links where link.index == index { present = link }
    try netlink.setLink(
      index, name: port.name, isUp: true, mtu: present?.mtu == port.mtu ? nil : port.mtu,
      mac: present?.mac == port.mac ? nil : port.mac)
  }

  /// Gives the kernel the gateway's own routes through ports that have a TAP, so that what the host sends (IKE, answers to
  /// those behind a tunnel) leaves by it; takes away those given before and not now. Returns what could not be set.
  public func setRoutes(_ wanted: [HostRoute]) -> [HostNetworkError] {
    var errors: [HostNetworkError] = []
    func set(_ route: HostRoute, _ isPresent: Bool) {
      guard let attached = ports[route.port] else { return }
      do throws(HostNetworkError) {
        try netlink.setRoute(route.prefix, via: route.gateway, on: attached.index, isPresent: isPresent)
      } catch {
        errors.append(error)
      }
    }
    for route in routesGiven where !wanted.contains(route) { set(route, false) }
    for route in wanted where !routesGiven.contains(route) { set(route, true) }
    routesGiven = wanted
    return errors
  }

  /// Lets a port go; the TAP is its owner's to remove.
  public func detach(port: UInt16) {
    guard let attached = ports.removeValue(forKey: port) else { return }
    portOfIndex[attached.index] = nil
    stale = stale.filter { $0.port != port }
    routing.batch {
      routing.removeInterface(port: port)
      routesMayDiffer = true
      synchronizeRoutesIfNeeded()
    }
  }

  /// The port's own link went up or down.
  public func setLink(port: UInt16, isUp: Bool) {
    guard ports[port] != nil, ports[port]?.configured.isLinkUp != isUp else { return }
    ports[port]?.configured.isLinkUp = isUp
    publish(port)
  }

  /// Gives the routing table what is known of a port. Its Ethernet address is the port's, whatever the TAP's.
  private func publish(_ port: UInt16) {
    guard let attached = ports[port] else { return }
    let configured = attached.configured
    var addresses = configured.addresses
    for address in attached.kernelAddresses where !addresses.contains(address) { addresses.append(address) }
    try? routing.set(
      Interface(
        port: port, name: configured.name, mac: configured.mac, mtu: min(configured.mtu, attached.kernelMTU),
        isUp: configured.isLinkUp && attached.isUp, addresses: addresses))
  }

  // MARK: News

  /// Takes in what the kernel has told; at most some of it, so that the loop gets on.
  public func handleReadable() {
    routing.batch {
      for _ in 0..<Self.readingsPerTurn {
        switch netlink.read() {
        case .notices(let notices): notices.forEach(apply)
        case .overrun: try? synchronize()
        case .nothing:
          synchronizeRoutesIfNeeded()
          return
        }
      }
    }
  }

  /// `now`: nanoseconds of a steady clock. Has the kernel confirm neighbours that are stale and look for next hops that
  /// are not known.
  public func tick(now: UInt64) {
    asked = asked.filter { now &- $0.value < Self.retryInterval }
    synchronizeRoutesIfNeeded()
    var budget = Self.requestsPerTick
    for key in stale.prefix(budget) {
      stale.remove(key)
      if routing.isNextHop(key), resolve(key, now: now) { budget -= 1 }
    }
    for key in routing.unresolvedNextHops where budget > 0 {
      if resolve(key, now: now) { budget -= 1 }
    }
  }

  /// Has the kernel look for a neighbour, unless it was asked to a moment ago. Returns whether it was asked now.
  @discardableResult
  public func resolve(_ key: NeighborKey, now: UInt64) -> Bool {
    guard let attached = ports[key.port], asked[key] != nil || asked.count < routing.limits.neighbors else {
      return false
    }
    if let last = asked[key], now &- last < Self.retryInterval { return false }
    asked[key] = now
    return (try? netlink.use(key.address, on: attached.index)) != nil
  }

  /// Reads all anew and makes the routing table agree.
  public func synchronize() throws(HostNetworkError) {
    let links = try netlink.dump(Int(RTM_GETLINK))
    let addresses = try netlink.dump(Int(RTM_GETADDR))
    let neighbors = try netlink.dump(Int(RTM_GETNEIGH))
    routesMayDiffer = true
    routing.batch {
      for port in ports.keys { ports[port]?.kernelAddresses = [] }
      links.forEach(apply)
      addresses.forEach(apply)
      ports.keys.forEach(publish)
      synchronizeNeighbors(neighbors)
      synchronizeRoutesIfNeeded()
    }
  }

  private func synchronizeNeighbors(_ notices: [RouteNotice]) {
    var present: Set<NeighborKey> = []
    for case .neighbor(let neighbor, _) in notices {
      if let port = portOfIndex[neighbor.index] { present.insert(NeighborKey(port: port, address: neighbor.address)) }
    }
    for record in routing.neighborRecords() where ports[record.key.port] != nil && !present.contains(record.key) {
      routing.removeNeighbor(record.key)
    }
    notices.forEach(apply)
  }

  private func synchronizeRoutesIfNeeded() {
    guard routesMayDiffer, let notices = try? netlink.dump(Int(RTM_GETROUTE)) else { return }
    routesMayDiffer = false
    var routes: [Route] = []
    severalNextHops = []
    for case .route(let route, _, _) in notices {
      noteSeveral(route, isGone: false)
      tell(route, isGone: false)
      if let route = route.route(port: { portOfIndex[$0] }) { routes.append(route) }
    }
    for error in routing.replaceRoutes(from: .kernel, with: routes).prefix(1) { onRefusal?("\(error)") }
  }

  private func apply(_ notice: RouteNotice) {
    switch notice {
    case .link(let link, let isGone): apply(link, isGone: isGone)
    case .address(let address, let isGone): apply(address, isGone: isGone)
    case .neighbor(let neighbor, let isGone): apply(neighbor, isGone: isGone)
    case .route(let route, let isGone, let isReplacing): apply(route, isGone: isGone, isReplacing: isReplacing)
    }
  }

  private func apply(_ link: KernelLink, isGone: Bool) {
    guard let port = portOfIndex[link.index], var attached = ports[port] else { return }
    let isUp = link.isUp && !isGone
    if attached.isUp != isUp { routesMayDiffer = true }
    attached.isUp = isUp
    if link.mtu != 0 { attached.kernelMTU = link.mtu }
    ports[port] = attached
    publish(port)
  }

  private func apply(_ notice: KernelAddress, isGone: Bool) {
    guard let port = portOfIndex[notice.index] else {
      // Routes that had the address as their source go with it.
      if isGone { routesMayDiffer = true }
      return
    }
    ports[port]?.kernelAddresses.removeAll { $0 == notice.address }
    if isGone {
      routesMayDiffer = true
    } else {
      ports[port]?.kernelAddresses.append(notice.address)
    }
    publish(port)
  }

  private func apply(_ neighbor: KernelNeighbor, isGone: Bool) {
    guard let port = portOfIndex[neighbor.index] else { return }
    let key = NeighborKey(port: port, address: neighbor.address)
    if isGone {
      stale.remove(key)
      routing.removeNeighbor(key)
      return
    }
    if neighbor.state == .stale { stale.insert(key) } else { stale.remove(key) }
    try? routing.setNeighbor(key, mac: neighbor.mac, state: neighbor.state)
  }

  private func apply(_ notice: KernelRoute, isGone: Bool, isReplacing: Bool) {
    noteSeveral(notice, isGone: isGone)
    tell(notice, isGone: isGone)
    guard let route = notice.route(port: { portOfIndex[$0] }) else {
      // What was replaced may have been the gateway's business.
      if isReplacing { routesMayDiffer = true }
      return
    }
    if isGone {
      routing.remove(route)
      return
    }
    if isReplacing {
      let replaced = routing.routes(for: route.prefix).filter { $0.source == .kernel && $0.metric == route.metric }
      if replaced.count > 1 { routesMayDiffer = true }
      replaced.forEach { routing.remove($0) }
    }
    do { try routing.add(route) } catch { tell(route.prefix, "\(error)") }
  }

  private func tell(_ notice: KernelRoute, isGone: Bool) {
    if isGone {
      refused.remove(notice.prefix)
    } else if notice.isForeign(port: { portOfIndex[$0] }) {
      tell(notice.prefix, "route \(notice.prefix): only the kernel can do what it says; it is unreachable here")
    }
  }

  /// Once for each of some prefixes: a table that is too large must not fill the log.
  private func tell(_ prefix: IPPrefix, _ text: String) {
    if refused.count < Self.refusalsTold, refused.insert(prefix).inserted { onRefusal?(text) }
  }

  /// IPv6 routes with several next hops lose them one by one, in notices that do not say what is left.
  private func noteSeveral(_ notice: KernelRoute, isGone: Bool) {
    guard notice.prefix.family == .v6 else { return }
    if notice.nextHops.count > 1 { severalNextHops.insert(notice.prefix) }
    if isGone, severalNextHops.contains(notice.prefix) { routesMayDiffer = true }
  }
}
