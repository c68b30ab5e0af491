import Foundation
import IPsec
import Routing
import Testing
import Wire

@testable import ControlPlane

/// The mirror of a real kernel, in network namespaces: root only.
@Suite(.serialized, .enabled(if: getuid() == 0)) struct HostNetworkTests {
  private static let own = MACAddress("02:00:00:00:00:01")!

  /// What a test needs at hand on the thread in the namespace.
  private struct Bench {
    let namespaces: NetworkNamespacePair
    let routing = RoutingTable(reclaimer: ImmediateReclaimer())
    let host: HostNetwork

    init(_ namespaces: NetworkNamespacePair) throws {
      self.namespaces = namespaces
      host = try HostNetwork(routing: routing)
    }

    func attach(_ addresses: [String] = ["198.51.100.1/24", "2001:db8:1::1/64"], mtu: UInt32 = 1400) throws {
      let port = HostPort(
        port: 3, name: "wan", mac: HostNetworkTests.own, mtu: mtu, addresses: addresses.map { LocalAddress($0)! })
      #expect(try host.attach(port).isEmpty)
    }

    func lookup(_ text: String) -> Adjacency {
      routing.adjacencies.adjacency(at: routing.fib.lookup(IPAddress(text)!)).pointee
    }

    /// Runs the loop until `condition` holds or ten seconds are over.
    func settle(_ what: String, ticking: Bool = false, _ condition: () -> Bool) {
      let start = DispatchTime.now().uptimeNanoseconds
      while DispatchTime.now().uptimeNanoseconds - start < 10_000_000_000 {
        var poll = pollfd(fd: host.descriptor, events: Int16(POLLIN), revents: 0)
        if Glibc.poll(&poll, 1, 20) > 0 { host.handleReadable() }
        if ticking { host.tick(now: DispatchTime.now().uptimeNanoseconds) }
        if condition() { return }
      }
      Issue.record("not in ten seconds: \(what)")
    }
  }

  private func bench(_ body: @escaping @Sendable (Bench) throws -> Void) throws {
    let namespaces = try NetworkNamespacePair()
    defer { namespaces.remove() }
    try namespaces.inside { try body(Bench(namespaces)) }
  }

  @Test func attachingConfiguresTheInterfaceAndKeepsWhatOthersSet() throws {
    try bench { bench in
      try bench.namespaces.ip("addr add 203.0.113.9/28 dev wan")
      try bench.namespaces.ip("addr add 198.51.100.1/24 dev wan")
      try bench.attach()
      let shown = try NetworkNamespacePair.run("ip -n \(bench.namespaces.here) addr show dev wan")
      for text in [
        "mtu 1400", "link/ether 02:00:00:00:00:01", "inet 198.51.100.1/24", "inet 203.0.113.9/28",
        "inet6 2001:db8:1::1/64", ",UP",
      ] { #expect(shown.contains(text), "\(text) in \(shown)") }
      let interface = try #require(bench.routing.interface(port: 3))
      #expect(interface.isUp)
      #expect(interface.mtu == 1400)
      for text in ["198.51.100.1/24", "203.0.113.9/28", "2001:db8:1::1/64"] {
        #expect(interface.addresses.contains(LocalAddress(text)!), "\(text)")
      }
      bench.settle("the kernel's own link-local address") {
        bench.routing.interface(port: 3)?.addresses.contains { $0.description.hasPrefix("fe80::") } == true
      }
      #expect(bench.lookup("203.0.113.9").kind == .local)
      #expect(bench.lookup("203.0.113.10").kind == .glean)
      #expect(bench.lookup("203.0.113.10").port == 3)
      // A new configuration takes back what the old one gave, and no more.
      try bench.attach(["198.51.100.5/24"], mtu: 1300)
      let again = try NetworkNamespacePair.run("ip -n \(bench.namespaces.here) addr show dev wan")
      #expect(!again.contains("198.51.100.1/24"))
      #expect(again.contains("203.0.113.9/28") && again.contains("198.51.100.5/24") && again.contains("mtu 1300"))
      #expect(bench.lookup("198.51.100.1").kind == .glean)
      #expect(bench.lookup("198.51.100.5").kind == .local)
    }
  }

  @Test func addressesAndLinksAreMirrored() throws {
    try bench { bench in
      try bench.attach()
      try bench.namespaces.ip("addr add 192.0.2.1/24 dev wan")
      bench.settle("address added") { bench.lookup("192.0.2.1").kind == .local }
      #expect(bench.lookup("192.0.2.7").kind == .glean)
      #expect(bench.lookup("192.0.2.255").kind == .broadcast)
      try bench.namespaces.ip("addr del 192.0.2.1/24 dev wan")
      bench.settle("address removed") { bench.lookup("192.0.2.7").kind == .noRoute }
      #expect(bench.lookup("192.0.2.1").kind == .noRoute)
      try bench.namespaces.ip("link set wan down")
      bench.settle("link down") { bench.lookup("198.51.100.7").kind == .noRoute }
      try bench.namespaces.ip("link set wan up")
      bench.settle("link up") { bench.lookup("198.51.100.7").kind == .glean }
      try bench.namespaces.ip("link set wan mtu 1300")
      bench.settle("MTU") { bench.lookup("198.51.100.7").mtu == 1300 }
      bench.host.setLink(port: 3, isUp: false)
      #expect(bench.lookup("198.51.100.7").kind == .noRoute)
      bench.host.setLink(port: 3, isUp: true)
      #expect(bench.lookup("198.51.100.7").kind == .glean)
      bench.host.detach(port: 3)
      #expect(bench.lookup("198.51.100.7").kind == .noRoute)
      #expect(bench.routing.allInterfaces.isEmpty)
    }
  }

  @Test func routesAreMirrored() throws {
    try bench { bench in
      try bench.namespaces.ip("link set wan up")
      try bench.namespaces.ip("addr add 198.51.100.1/24 dev wan")
      try bench.namespaces.ip("route add 10.1.0.0/16 via 198.51.100.2 mtu 1350")
      try bench.attach()
      #expect(bench.lookup("10.1.2.3").kind == .forward)
      #expect(bench.lookup("10.1.2.3").mtu == 1350)
      try bench.namespaces.ip("route add 10.2.0.0/16 via 198.51.100.2")
      try bench.namespaces.ip("route add blackhole 10.3.0.0/16")
      try bench.namespaces.ip("route add prohibit 10.4.0.0/16")
      try bench.namespaces.ip("route add unreachable 2001:db8:3::/48")
      try bench.namespaces.ip("route add 2001:db8:9::/48 via fe80::ff:fe00:2 dev wan")
      try bench.namespaces.ip("route add 10.8.0.0/16 via inet6 fe80::ff:fe00:2 dev wan")
      try bench.namespaces.ip("route add default via 198.51.100.254")
      try bench.namespaces.ip("route add 10.66.0.0/16 dev lo")
      try bench.namespaces.ip("route add 10.77.0.0/16 via 198.51.100.2 table 77")
      bench.settle("default route") { bench.lookup("8.8.8.8").kind == .forward }
      #expect(bench.lookup("10.2.0.1").nextHop == IPAddress("198.51.100.2"))
      #expect(bench.lookup("10.3.0.1").kind == .blackhole)
      #expect(bench.lookup("10.4.0.1").kind == .prohibit)
      #expect(bench.lookup("2001:db8:3::1").kind == .unreachable)
      #expect(bench.lookup("2001:db8:9::1").nextHop == IPAddress("fe80::ff:fe00:2"))
      #expect(bench.lookup("10.8.0.1").nextHop == IPAddress("fe80::ff:fe00:2"), "IPv4 by IPv6 (RFC 5549)")
      try bench.namespaces.ip(
        "route add 10.9.0.0/16 nexthop via inet6 fe80::ff:fe00:2 dev wan nexthop via 198.51.100.3 dev wan")
      bench.settle("several, one IPv6") { bench.lookup("10.9.0.1").nextHop == IPAddress("fe80::ff:fe00:2") }
      try bench.namespaces.ip("route del 10.9.0.0/16")
      bench.settle("gone") { bench.lookup("10.9.0.1").nextHop == IPAddress("198.51.100.254") }
      #expect(bench.lookup("10.66.0.1").nextHop == IPAddress("198.51.100.254"), "not by an interface of the host")
      #expect(bench.lookup("10.77.0.1").nextHop == IPAddress("198.51.100.254"), "not by another table")
      try bench.namespaces.ip("route replace 10.2.0.0/16 via 198.51.100.3")
      bench.settle("replaced") { bench.lookup("10.2.0.1").nextHop == IPAddress("198.51.100.3") }
      try bench.namespaces.ip("route add 10.2.0.0/16 via 198.51.100.4 metric 10")
      try bench.namespaces.ip("route del 10.2.0.0/16 via 198.51.100.3")
      bench.settle("the next metric") { bench.lookup("10.2.0.1").nextHop == IPAddress("198.51.100.4") }
      // With the address go, unheard, the routes by it.
      try bench.namespaces.ip("addr flush dev wan scope global")
      bench.settle("routes of a lost address") { bench.lookup("10.1.2.3").kind == .noRoute }
      #expect(bench.routing.routeRecords().allSatisfy { $0.route.source != .kernel || $0.route.prefix.length != 0 })
    }
  }

  @Test func theFirstOfSeveralNextHopsIsTaken() throws {
    try bench { bench in
      try bench.attach()
      try bench.namespaces.ip("route add 10.5.0.0/16 nexthop via 198.51.100.2 nexthop via 198.51.100.3")
      try bench.namespaces.ip("route add 2001:db8:5::/48 nexthop via 2001:db8:1::2 nexthop via 2001:db8:1::3")
      bench.settle("several next hops") { bench.lookup("2001:db8:5::1").kind == .forward }
      #expect(bench.lookup("10.5.0.1").nextHop == IPAddress("198.51.100.2"))
      #expect(bench.lookup("2001:db8:5::1").nextHop == IPAddress("2001:db8:1::2"))
      try bench.namespaces.ip("route del 2001:db8:5::/48 via 2001:db8:1::2")
      bench.settle("one next hop less") { bench.lookup("2001:db8:5::1").nextHop == IPAddress("2001:db8:1::3") }
      try bench.namespaces.ip("route del 2001:db8:5::/48 via 2001:db8:1::3")
      try bench.namespaces.ip("route del 10.5.0.0/16")
      bench.settle("none left") { bench.lookup("2001:db8:5::1").kind == .noRoute }
      #expect(bench.lookup("10.5.0.1").kind == .noRoute)
    }
  }

  @Test func nextHopsAreResolvedBeforeTheyAreNeeded() throws {
    try bench { bench in
      try bench.attach()
      try bench.routing.add(Route(IPPrefix("172.20.1.0/24")!, .via(IPAddress("198.51.100.2")!, port: nil)))
      try bench.routing.add(Route(IPPrefix("2001:db8:9::/48")!, .via(IPAddress("2001:db8:1::2")!, port: nil)))
      #expect(bench.lookup("172.20.1.1").state == .incomplete)
      bench.settle("both resolved", ticking: true) {
        bench.lookup("172.20.1.1").state == .reachable && bench.lookup("2001:db8:9::1").state == .reachable
      }
      var header = [UInt8](repeating: 0, count: 14)
      header.withUnsafeMutableBytes { bench.lookup("172.20.1.1").writeEthernetHeader(to: $0.baseAddress!) }
      #expect(header == [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0])
      #expect(bench.lookup("198.51.100.2").kind == .forward, "a host route for the neighbour")
    }
  }

  @Test func neighboursAreResolvedOnDemandKeptFreshAndForgotten() throws {
    try bench { bench in
      // Neighbours age quickly here.
      try NetworkNamespacePair.run(
        "ip netns exec \(bench.namespaces.here) sysctl -qw net.ipv4.neigh.wan.base_reachable_time_ms=800 "
          + "net.ipv4.neigh.wan.delay_first_probe_time=1 net.ipv4.neigh.wan.retrans_time_ms=100")
      try bench.attach()
      let key = NeighborKey(port: 3, address: IPAddress("198.51.100.2")!)
      #expect(bench.lookup("198.51.100.2").kind == .glean)
      #expect(bench.host.resolve(key, now: 1))
      #expect(!bench.host.resolve(key, now: 2), "asked a moment ago")
      bench.settle("resolved") { bench.lookup("198.51.100.2").state == .reachable }
      try bench.namespaces.ip("neigh replace 198.51.100.2 lladdr 02:00:00:00:00:02 dev wan nud stale")
      bench.settle("stale") { bench.routing.neighborRecords().first?.state == .stale }
      #expect(bench.lookup("198.51.100.2").state == .reachable, "used all the same")
      bench.settle("confirmed", ticking: true) { bench.routing.neighborRecords().first?.state == .reachable }
      // The station changes its card.
      try NetworkNamespacePair.run("ip -n \(bench.namespaces.there) link set peer address 02:00:00:00:00:22")
      bench.settle("the new address", ticking: true) {
        bench.host.resolve(key, now: DispatchTime.now().uptimeNanoseconds)
        return bench.routing.neighborRecords().first?.mac == MACAddress("02:00:00:00:00:22")
      }
      // And goes.
      try NetworkNamespacePair.run("ip -n \(bench.namespaces.there) addr flush dev peer")
      bench.settle("gone", ticking: true) { bench.lookup("198.51.100.2").kind == .glean }
      let nobody = NeighborKey(port: 3, address: IPAddress("198.51.100.77")!)
      bench.settle("asked") { bench.host.resolve(nobody, now: DispatchTime.now().uptimeNanoseconds) }
      bench.settle("in vain") { bench.routing.neighborRecords().contains { $0.key == nobody && $0.state == .failed } }
      #expect(!bench.host.resolve(NeighborKey(port: 9, address: nobody.address), now: 1), "no such port")
    }
  }

  @Test func lostNoticesAreMadeUpFor() throws {
    try bench { bench in
      try bench.attach()
      let batch = FileManager.default.temporaryDirectory.appendingPathComponent("\(bench.namespaces.here).batch")
      defer { try? FileManager.default.removeItem(at: batch) }
      let count = 30_000
      let lines = (0..<count).map { "route add 10.\($0 >> 8).\($0 & 255).0/24 via 198.51.100.2" }
      try lines.joined(separator: "\n").write(to: batch, atomically: true, encoding: .utf8)
      try bench.namespaces.ip("-batch \(batch.path)")
      bench.settle("all routes") { bench.lookup("10.\((count - 1) >> 8).\((count - 1) & 255).1").kind == .forward }
      #expect(bench.routing.routeRecords().filter { $0.route.prefix.length == 24 }.count >= count)
      try bench.namespaces.ip("route flush root 10.0.0.0/8")
      bench.settle("no routes") {
        bench.lookup("10.0.0.1").kind == .noRoute && bench.lookup("10.117.1.1").kind == .noRoute
      }
    }
  }

  @Test func aMissingInterfaceIsNamed() throws {
    try bench { bench in
      #expect(throws: HostNetworkError.noInterface("lan")) {
        try bench.host.attach(HostPort(port: 4, name: "lan", mac: Self.own, mtu: 1500, addresses: []))
      }
      #expect(HostNetworkError.noInterface("lan").description.contains("lan"))
    }
  }

  @Test func aRefusedAddressIsReportedAndTheOthersWork() throws {
    try bench { bench in
      try NetworkNamespacePair.run(
        "ip netns exec \(bench.namespaces.here) sysctl -qw net.ipv6.conf.wan.disable_ipv6=1")
      let port = HostPort(
        port: 3, name: "wan", mac: Self.own, mtu: 1500,
        addresses: [LocalAddress("2001:db8:1::1/64")!, LocalAddress("198.51.100.1/24")!])
      let errors = try bench.host.attach(port)
      #expect(errors.count == 1)
      #expect(errors.first?.description.contains("2001:db8:1::1/64") == true)
      #expect(bench.lookup("198.51.100.1").kind == .local)
    }
  }
}
