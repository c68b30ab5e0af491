import ConfigurationFiles
import DPDK
import DataPlane
import Foundation
import Routing
import Synchronization
import Wire

/// Interfaces, routes and neighbours: from the configuration, and from the kernel for ports that have a TAP.
extension Gateway {
  func setUpPorts() throws {
    for (index, port) in configuration.ports.enumerated() {
      let device = dataPlane.ports[index]
      try routing.set(
        Interface(
          port: UInt16(index), name: port.name, mac: device.macAddress, mtu: UInt32(port.mtu),
          addresses: port.localAddresses))
    }
    try applyRoutes(configuration)
    try applyNeighbors(from: [], to: configuration.neighbors)
  }

  /// After the TAPs are up.
  func attachHostPorts() throws {
    guard configuration.ports.contains(where: \.host) else { return }
    let network = try HostNetwork(routing: routing)
    network.onRefusal = { [logger] in logger.warning("\($0)") }
    for index in configuration.ports.indices where configuration.ports[index].host {
      for failure in try network.attach(hostPort(index)) { logger.warning("\(failure)") }
    }
    hostNetwork = network
    giveRoutesToKernel()
    loop.watch(network.descriptor, for: .readable) { _ in network.handleReadable() }
  }

  func hostPort(_ index: Int) -> HostPort {
    let port = configuration.ports[index]
    return HostPort(
      port: UInt16(index), name: port.name, mac: dataPlane.ports[index].macAddress, mtu: UInt32(port.mtu),
      addresses: port.localAddresses, isLinkUp: linkStates[index])
  }

  func applyRoutes(_ configuration: GatewayConfiguration) throws {
    let routes = configuration.routes.compactMap { route -> Route? in
      let port = route.port.flatMap { name in configuration.ports.firstIndex { $0.name == name } }.map { UInt16($0) }
      if let via = route.via { return Route(route.to, .via(via, port: port)) }
      return port.map { Route(route.to, .connected(port: $0)) }
    }
    let refused = routing.replaceRoutes(from: .configuration, with: routes)
    guard refused.isEmpty else { throw GatewayError.network(refused.map(\.description).joined(separator: "; ")) }
  }

  /// Static routes by way of ports that have a TAP.
  func giveRoutesToKernel() {
    let routes = configuration.routes.compactMap { route -> HostRoute? in
      let index = configuration.ports.firstIndex { port in
        if let name = route.port { return port.name == name }
        return route.via.map { via in port.addresses.contains { $0.network.contains(via) } } ?? false
      }
      guard let index, configuration.ports[index].host else { return nil }
      return HostRoute(prefix: route.to, gateway: route.via, port: UInt16(index))
    }
    for failure in hostNetwork?.setRoutes(routes) ?? [] { logger.warning("\(failure)") }
  }

  func applyNeighbors(from old: [StaticNeighbor], to new: [StaticNeighbor]) throws {
    func key(_ neighbor: StaticNeighbor) -> NeighborKey? {
      configuration.ports.firstIndex { $0.name == neighbor.port }.map {
        NeighborKey(port: UInt16($0), address: neighbor.address)
      }
    }
    for neighbor in old where !new.contains(neighbor) {
      if let key = key(neighbor) { try routing.setStaticNeighbor(key, mac: nil) }
    }
    for neighbor in new {
      if let key = key(neighbor) { try routing.setStaticNeighbor(key, mac: neighbor.mac) }
    }
  }

  // MARK: Changes

  /// Flow caches and the SAs' adjacencies are void now; packets that waited for a neighbour may go.
  func routesChanged() {
    // 0 is the generation of an SA that has looked nothing up yet.
    let next = dataPlane.shared.pointee.routingGeneration.load(ordering: .relaxed) &+ 1
    dataPlane.shared.pointee.routingGeneration.store(next == 0 ? 1 : next, ordering: .releasing)
    for key in awaited where routing.isResolved(key) {
      awaited.remove(key)
      dataPlane.host.release(port: key.port, address: key.address)
    }
  }

  /// A worker has packets for a neighbour that is not known.
  func resolve(_ key: NeighborKey) {
    if routing.isResolved(key) {
      dataPlane.host.release(port: key.port, address: key.address)
      return
    }
    guard awaited.insert(key).inserted else { return }
    ask(for: key, again: 12)
  }

  /// Until it is resolved, for as long as packets wait. The kernel repeats its questions itself; what it forgets about an
  /// address (a flushed table) is asked for anew.
  private func ask(for key: NeighborKey, again: Int) {
    guard awaited.contains(key) else { return }
    guard again > 0 else {
      awaited.remove(key)
      return
    }
    hostNetwork?.resolve(key, now: Self.nanoseconds())
    loop.schedule(after: .milliseconds(250)) { [weak self] in self?.ask(for: key, again: again - 1) }
  }

  /// Carrier lost and found.
  func checkLinks() {
    for (index, port) in dataPlane.ports.enumerated() {
      let isUp = port.link.isUp
      guard isUp != linkStates[index] else { continue }
      linkStates[index] = isUp
      logger.notice("port \(configuration.ports[index].name): link \(isUp ? "up" : "down")")
      if configuration.ports[index].host {
        hostNetwork?.setLink(port: UInt16(index), isUp: isUp)
        do { try dataPlane.host.taps[index]?.setCarrier(isUp) } catch { logger.warning("\(error)") }
      } else if var interface = routing.interface(port: UInt16(index)) {
        interface.isUp = isUp
        try? routing.set(interface)
      }
    }
  }

  static func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

extension ConfigurationFiles.Port {
  var localAddresses: [LocalAddress] { addresses.compactMap { LocalAddress($0.address, length: $0.prefixLength) } }
}
