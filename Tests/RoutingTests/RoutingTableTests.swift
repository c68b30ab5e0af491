import IPsec
import SeededRandom
import Testing
import Wire

@testable import Routing

@Suite struct RoutingTableTests {
  private let mac = MACAddress("02:00:00:00:00:99")!

  private func interface(_ port: UInt16, _ addresses: String..., mtu: UInt32 = 1500, isUp: Bool = true) -> Interface {
    Interface(
      port: port, name: "p\(port)", mac: MACAddress(rawValue: 0x0200_0000_0000 + UInt64(port)), mtu: mtu, isUp: isUp,
      addresses: addresses.map { LocalAddress($0)! })
  }

  private func table(_ limits: RoutingLimits = RoutingLimits()) throws -> RoutingTable {
    let table = RoutingTable(limits: limits, reclaimer: ImmediateReclaimer())
    try table.set(interface(1, "198.51.100.1/24", "2001:db8:1::1/64", "fe80::1/64"))
    try table.set(interface(2, "192.168.60.1/24", mtu: 9000))
    return table
  }

  private func lookup(_ table: RoutingTable, _ text: String) -> Adjacency {
    table.adjacencies.adjacency(at: table.fib.lookup(address(text))).pointee
  }

  private func key(_ port: UInt16, _ text: String) -> NeighborKey { NeighborKey(port: port, address: address(text)) }

  @Test func anInterfaceBringsItsOwnRoutes() throws {
    let table = try table()
    let answers: [(String, Adjacency.Kind, UInt16)] = [
      ("198.51.100.1", .local, 1), ("198.51.100.2", .glean, 1), ("198.51.100.255", .broadcast, 1),
      ("192.168.60.1", .local, 2), ("192.168.60.7", .glean, 2), ("192.168.61.1", .noRoute, Adjacency.anyPort),
      ("2001:db8:1::1", .local, 1), ("2001:db8:1::2", .glean, 1), ("2001:db8:2::1", .noRoute, Adjacency.anyPort),
      ("fe80::1", .local, Adjacency.anyPort), ("ff02::1", .multicast, Adjacency.anyPort),
      ("224.0.0.5", .multicast, Adjacency.anyPort), ("255.255.255.255", .broadcast, Adjacency.anyPort),
    ]
    for (text, kind, port) in answers {
      #expect(lookup(table, text).kind == kind, "\(text)")
      #expect(lookup(table, text).port == port, "\(text)")
    }
    #expect(lookup(table, "192.168.60.7").mtu == 9000)
    let record = table.interfaces.interface(at: 1).pointee
    #expect(record.v4 == 0xc633_6401)
    #expect(record.v6 == IPv6Address("2001:db8:1::1"))
    #expect(record.v6LinkLocal == IPv6Address("fe80::1"))
    #expect(!table.interfaces.interface(at: 9).pointee.isUp)
    #expect(MemoryLayout<InterfaceRecord>.size <= 64)
  }

  /// RFC 5549: one neighbour, frames of two types.
  @Test func ipv4GoesByAnIPv6NextHop() throws {
    let table = try table()
    let hop = key(1, "fe80::2")
    try table.add(Route(prefix("10.8.0.0/16"), .via(hop.address, port: 1), source: .kernel))
    try table.add(Route(prefix("2001:db8:8::/48"), .via(hop.address, port: 1), source: .kernel))
    #expect(lookup(table, "10.8.0.1").nextHop == hop.address && lookup(table, "10.8.0.1").state == .incomplete)
    #expect(table.unresolvedNextHops == [hop])
    try table.setNeighbor(hop, mac: mac, state: .reachable)
    for (destination, type) in [("10.8.0.1", [UInt8](arrayLiteral: 8, 0)), ("2001:db8:8::1", [0x86, 0xdd])] {
      let adjacency = lookup(table, destination)
      var header = [UInt8](repeating: 0, count: 14)
      header.withUnsafeMutableBytes { adjacency.writeEthernetHeader(to: $0.baseAddress!) }
      #expect(adjacency.state == .reachable && Array(header[..<6]) == mac.bytes && Array(header[12...]) == type)
    }
    table.removeNeighbor(hop)
    #expect(lookup(table, "10.8.0.1").state == .incomplete && lookup(table, "2001:db8:8::1").state == .incomplete)
  }

  @Test func aNextHopIsFoundOnItsSubnetAndItsAddressFollowsTheNeighbour() throws {
    let table = try table()
    try table.add(Route(prefix("172.20.1.0/24"), .via(address("198.51.100.2"), port: nil)))
    try table.add(Route(prefix("172.20.2.0/24"), .via(address("198.51.100.2"), port: nil), mtu: 1400))
    #expect(lookup(table, "172.20.1.9").kind == .forward)
    #expect(lookup(table, "172.20.1.9").state == .incomplete)
    #expect(lookup(table, "172.20.1.9").port == 1)
    #expect(lookup(table, "172.20.1.9").nextHop == address("198.51.100.2"))
    #expect(table.unresolvedNextHops == [key(1, "198.51.100.2")])
    try table.setNeighbor(key(1, "198.51.100.2"), mac: mac, state: .reachable)
    for (text, mtu) in [("172.20.1.9", UInt32(1500)), ("172.20.2.9", 1400), ("198.51.100.2", 1500)] {
      let adjacency = lookup(table, text)
      #expect(adjacency.state == .reachable)
      #expect(adjacency.mtu == mtu)
      var header = [UInt8](repeating: 0, count: 14)
      header.withUnsafeMutableBytes { adjacency.writeEthernetHeader(to: $0.baseAddress!) }
      #expect(header == mac.bytes + [2, 0, 0, 0, 0, 1, 8, 0])
    }
    #expect(table.unresolvedNextHops.isEmpty)
    table.removeNeighbor(key(1, "198.51.100.2"))
    #expect(lookup(table, "172.20.1.9").state == .incomplete)
    #expect(lookup(table, "198.51.100.2").kind == .glean)
  }

  @Test func theConfigurationWinsOverTheKernelAndTheMetricDecidesBetweenEquals() throws {
    let table = try table()
    let kernel = Route(prefix("10.0.0.0/8"), .via(address("198.51.100.3"), port: 1), source: .kernel, metric: 100)
    let better = Route(prefix("10.0.0.0/8"), .via(address("198.51.100.4"), port: 1), source: .kernel, metric: 10)
    let configured = Route(prefix("10.0.0.0/8"), .via(address("192.168.60.9"), port: nil), metric: 500)
    try table.add(kernel)
    #expect(lookup(table, "10.1.1.1").nextHop == address("198.51.100.3"))
    try table.add(better)
    #expect(lookup(table, "10.1.1.1").nextHop == address("198.51.100.4"))
    try table.add(configured)
    #expect(lookup(table, "10.1.1.1").nextHop == address("192.168.60.9"))
    #expect(table.remove(configured))
    #expect(table.remove(better))
    #expect(lookup(table, "10.1.1.1").nextHop == address("198.51.100.3"))
    #expect(!table.remove(better))
    #expect(table.remove(kernel))
    #expect(lookup(table, "10.1.1.1").kind == .noRoute)
  }

  @Test func droppingRoutesSayHow() throws {
    let table = try table()
    try table.add(Route(prefix("10.1.0.0/16"), .unreachable))
    try table.add(Route(prefix("10.2.0.0/16"), .prohibit))
    try table.add(Route(prefix("10.3.0.0/16"), .blackhole))
    #expect(lookup(table, "10.1.0.1").kind == .unreachable)
    #expect(lookup(table, "10.2.0.1").kind == .prohibit)
    #expect(lookup(table, "10.3.0.1").kind == .blackhole)
  }

  @Test func aPortThatGoesDownTakesItsRoutesAlong() throws {
    let table = try table()
    try table.add(Route(prefix("10.0.0.0/8"), .via(address("198.51.100.2"), port: nil)))
    try table.add(Route(prefix("10.0.0.0/8"), .via(address("192.168.60.2"), port: nil), metric: 5))
    try table.setNeighbor(key(1, "198.51.100.2"), mac: mac, state: .reachable)
    #expect(lookup(table, "10.1.1.1").port == 1)
    try table.set(interface(1, "198.51.100.1/24", isUp: false))
    #expect(lookup(table, "10.1.1.1").port == 2)
    #expect(lookup(table, "198.51.100.1").kind == .local, "the address stays the gateway's")
    #expect(lookup(table, "198.51.100.2").kind == .noRoute)
    #expect(lookup(table, "2001:db8:1::1").kind == .noRoute, "an address that was taken away")
    try table.set(interface(1, "198.51.100.1/24"))
    #expect(lookup(table, "10.1.1.1").port == 1)
    #expect(lookup(table, "198.51.100.2").kind == .forward)
    table.removeInterface(port: 1)
    #expect(lookup(table, "198.51.100.1").kind == .noRoute)
    #expect(lookup(table, "10.1.1.1").port == 2)
    #expect(table.neighborRecords().isEmpty)
  }

  @Test func newMTUAndMACReachTheAdjacencies() throws {
    let table = try table()
    try table.add(Route(prefix("10.0.0.0/8"), .via(address("198.51.100.2"), port: nil), mtu: 1450))
    try table.setStaticNeighbor(key(1, "198.51.100.2"), mac: mac)
    var changed = interface(1, "198.51.100.1/24", mtu: 1400)
    changed.mac = MACAddress("02:aa:00:00:00:01")!
    try table.set(changed)
    let adjacency = lookup(table, "10.0.0.1")
    #expect(adjacency.mtu == 1400)
    var header = [UInt8](repeating: 0, count: 14)
    header.withUnsafeMutableBytes { adjacency.writeEthernetHeader(to: $0.baseAddress!) }
    #expect(header == mac.bytes + changed.mac.bytes + [8, 0])
  }

  @Test func aNeighbourHasNoRouteWhereARouteLeadsElsewhere() throws {
    let table = try table()
    try table.setNeighbor(key(1, "198.51.100.200"), mac: mac, state: .reachable)
    try table.setNeighbor(key(2, "198.51.100.201"), mac: mac, state: .reachable)
    #expect(lookup(table, "198.51.100.200").kind == .forward)
    #expect(lookup(table, "198.51.100.201").kind == .glean, "learned on a port that is not its subnet's")
    let elsewhere = Route(prefix("198.51.100.128/25"), .via(address("192.168.60.2"), port: nil))
    try table.add(elsewhere)
    #expect(lookup(table, "198.51.100.200").port == 2)
    table.remove(elsewhere)
    #expect(lookup(table, "198.51.100.200").port == 1)
    let host = Route(prefix("198.51.100.200"), .via(address("192.168.60.3"), port: nil))
    try table.add(host)
    #expect(lookup(table, "198.51.100.200").nextHop == address("192.168.60.3"))
    table.remove(host)
    #expect(lookup(table, "198.51.100.200").nextHop == address("198.51.100.200"))
  }

  @Test func aStaticNeighbourIsNotOverruled() throws {
    let table = try table()
    let other = MACAddress("02:00:00:00:00:11")!
    try table.setStaticNeighbor(key(1, "198.51.100.2"), mac: mac)
    try table.setNeighbor(key(1, "198.51.100.2"), mac: other, state: .reachable)
    #expect(table.neighborRecords().map(\.mac) == [mac])
    #expect(table.neighborRecords().map(\.state) == [.permanent])
    try table.setStaticNeighbor(key(1, "198.51.100.2"), mac: nil)
    #expect(table.neighborRecords().map(\.mac) == [other])
    table.removeNeighbor(key(1, "198.51.100.2"))
    #expect(table.neighborRecords().isEmpty)
  }

  @Test func nonsenseIsRefusedAndNothingChanges() throws {
    var limits = RoutingLimits()
    limits.routes = 20
    limits.neighbors = 1
    limits.ports = 4
    let table = try table(limits)
    let before = table.count
    #expect(throws: RoutingError.self) { try table.set(interface(4)) }
    #expect(throws: RoutingError.self) {
      try table.add(Route(prefix("10.0.0.0/8"), .via(address("224.0.0.1"), port: nil)))
    }
    #expect(throws: RoutingError.self) {
      try table.add(Route(prefix("10.0.0.0/8"), .via(address("0.0.0.0"), port: 1)))
    }
    #expect(throws: RoutingError.self) { try table.add(Route(prefix("::/0"), .via(address("fe80::2"), port: nil))) }
    #expect(throws: RoutingError.self) {
      try table.setNeighbor(key(1, "198.51.100.2"), mac: .broadcast, state: .reachable)
    }
    #expect(throws: RoutingError.self) {
      try table.setStaticNeighbor(key(1, "198.51.100.2"), mac: MACAddress(rawValue: 0))
    }
    #expect(table.count == before)
    #expect(table.neighborRecords().isEmpty)
    for number in before..<20 { try table.add(Route(prefix("10.\(number).0.0/16"), .blackhole)) }
    #expect(throws: RoutingError.self) { try table.add(Route(prefix("10.200.0.0/16"), .blackhole)) }
    #expect(lookup(table, "10.200.0.1").kind == .noRoute)
    try table.setNeighbor(key(1, "198.51.100.2"), mac: nil, state: .incomplete)
    #expect(throws: RoutingError.self) {
      try table.setNeighbor(key(1, "198.51.100.3"), mac: mac, state: .reachable)
    }
  }

  @Test func replacingASourceTouchesWhatDiffers() throws {
    let table = try table()
    let routes = (0..<4).map {
      Route(prefix("10.\($0).0.0/16"), .via(address("198.51.100.2"), port: 1), source: .kernel)
    }
    let configured = Route(prefix("10.9.0.0/16"), .blackhole)
    try table.add(configured)
    #expect(table.replaceRoutes(from: .kernel, with: Array(routes[0...2])).isEmpty)
    #expect(table.replaceRoutes(from: .kernel, with: Array(routes[1...3])).isEmpty)
    #expect(lookup(table, "10.0.0.1").kind == .noRoute)
    #expect(lookup(table, "10.3.0.1").kind == .forward)
    #expect(lookup(table, "10.9.0.1").kind == .blackhole)
  }

  @Test func recordsSayWhatIsActiveAndResolved() throws {
    let table = try table()
    let via = Route(prefix("10.0.0.0/8"), .via(address("198.51.100.2"), port: nil))
    let lost = Route(prefix("10.0.0.0/8"), .via(address("203.0.113.2"), port: nil), metric: 1)
    try table.add(via)
    try table.add(lost)
    let records = table.routeRecords().filter { $0.route.prefix == prefix("10.0.0.0/8") }
    #expect(
      records == [
        RouteRecord(route: via, port: 1, portName: "p1", isActive: true, isResolved: false),
        RouteRecord(route: lost, port: nil, portName: nil, isActive: false, isResolved: false),
      ])
  }

  @Test func changesAreToldOnceAndBeforeAnythingIsRetired() throws {
    let reclaimer = HeldReclaimer()
    let table = RoutingTable(reclaimer: reclaimer)
    try table.set(interface(1, "198.51.100.1/24"))
    reclaimer.release()
    var told: [Int] = []
    table.onChange = { told.append(reclaimer.count) }
    let via = Route(prefix("10.0.0.0/8"), .via(address("198.51.100.2"), port: 1))
    let other = Route(prefix("10.0.0.0/8"), .via(address("198.51.100.3"), port: 1), metric: 1)
    try table.add(via)
    try table.add(via)
    try table.add(other)
    #expect(told == [0], "what does not change the answer is no change")
    table.remove(via)
    #expect(told == [0, 0])
    #expect(reclaimer.count == 1, "the adjacency of the old next hop")
    reclaimer.release()
    table.batch {
      table.remove(other)
      try? table.add(via)
      try? table.setNeighbor(key(1, "198.51.100.9"), mac: mac, state: .reachable)
      #expect(told.count == 2)
    }
    #expect(told.count == 3)
    try table.setNeighbor(key(1, "198.51.100.9"), mac: mac, state: .stale)
    #expect(told.count == 3, "the same Ethernet address")
    try table.setNeighbor(key(1, "198.51.100.2"), mac: mac, state: .reachable)
    #expect(told.count == 4)
  }

  /// Random changes in random order against a table that is built from the final state alone.
  @Test func historyLeavesNoTrace() throws {
    var generator = SeededGenerator.printed("RoutingTable history")
    for _ in 0..<20 {
      let pool = randomRoutes(using: &generator)
      let keys = (0..<12).map { key(UInt16(1 + $0 % 2), "10.0.\($0 % 3).\($0)") }
      var chosen: Set<Route> = []
      var known: Set<NeighborKey> = []
      var up = [true, true]
      let churned = try emptyPorts(up)
      for _ in 0..<300 {
        switch Int.random(in: 0..<8, using: &generator) {
        case 0..<3:
          let route = pool.randomElement(using: &generator)!
          try churned.add(route)
          chosen.insert(route)
        case 3, 4:
          guard let route = chosen.randomElement(using: &generator) else { continue }
          #expect(churned.remove(route))
          chosen.remove(route)
        case 5:
          let key = keys.randomElement(using: &generator)!
          try churned.setNeighbor(key, mac: mac, state: .reachable)
          known.insert(key)
        case 6:
          guard let key = known.randomElement(using: &generator) else { continue }
          churned.removeNeighbor(key)
          known.remove(key)
        default:
          up[Int.random(in: 0...1, using: &generator)].toggle()
          for port in 0...1 { try churned.set(testPort(port, up: up[port])) }
        }
      }
      let built = try emptyPorts(up)
      for key in known { try built.setNeighbor(key, mac: mac, state: .reachable) }
      for route in chosen.shuffled(using: &generator) { try built.add(route) }
      for _ in 0..<2000 {
        let raw = UInt32.random(in: 0x0a00_0000...0x0a00_030f, using: &generator) & 0xffff_ff0f
        let probe = IPv4Address(rawValue: raw).description
        #expect(describe(lookup(churned, probe)) == describe(lookup(built, probe)), "\(probe)")
      }
      #expect(churned.forwarding.count == built.forwarding.count)
      #expect(churned.forwarding.nodeCount == built.forwarding.nodeCount)
    }
  }

  private func testPort(_ number: Int, up: Bool) -> Interface {
    interface(UInt16(number + 1), number == 0 ? "10.0.0.1/23" : "10.0.2.1/24", isUp: up)
  }

  private func emptyPorts(_ up: [Bool]) throws -> RoutingTable {
    let table = RoutingTable(reclaimer: ImmediateReclaimer())
    for port in 0...1 { try table.set(testPort(port, up: up[port])) }
    return table
  }

  private func randomRoutes(using generator: inout SeededGenerator) -> [Route] {
    (0..<30).map { _ in
      let raw = UInt32.random(in: 0x0a00_0000...0x0a00_030f, using: &generator) & 0xffff_ff0f
      let prefix = IPPrefix(.v4(IPv4Address(rawValue: raw)), length: .random(in: 20...32, using: &generator))!
      let hop = address("10.0.\(Int.random(in: 0...3, using: &generator)).\(Int.random(in: 2...15, using: &generator))")
      let targets: [RouteTarget] = [
        .via(hop, port: nil), .via(hop, port: UInt16.random(in: 1...2, using: &generator)), .blackhole,
        .connected(port: UInt16.random(in: 1...2, using: &generator)),
      ]
      return Route(
        prefix, targets.randomElement(using: &generator)!,
        source: Bool.random(using: &generator) ? .kernel : .configuration,
        metric: UInt32.random(in: 0...3, using: &generator))
    }
  }

  private func describe(_ adjacency: Adjacency) -> String {
    "\(adjacency.kind) \(adjacency.port) \(adjacency.state) \(adjacency.mtu) \(adjacency.nextHop?.description ?? "-")"
  }
}
