import CLayout
import ConfigurationFiles
import ControlAPI
import Engines
import Foundation
import IKEControl
import IPsec
import Testing
import Wire

@testable import ControlPlane

/// Tunnels as they come out of what happens in a database, with a clock and counters under the test's control.
@Suite struct TunnelTableTests {
  private final class Counters: CounterSource {
    var values: [UInt32: gw_counters] = [:]
    func counters(slot: UInt32) -> gw_counters { values[slot] ?? gw_counters() }
    func reset(slot: UInt32) { values[slot] = nil }
    /// All that is counted anywhere.
    var all = gw_counters()
  }

  private final class Clock { var now: Double = 1000 }

  private static let (here, there) = (IPAddress("192.0.2.1")!, IPAddress("192.0.2.2")!)
  private let counters = Counters()
  private let clock = Clock()
  private let database: SecurityDatabase
  private let table: TunnelTable
  private final class Changes { var all: [String] = [] }
  private let changes = Changes()

  init() {
    database = SecurityDatabase(
      engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), counters: counters, now: 1)
    database.isOwnAddress = { $0 == Self.here }
    let (clock, changes) = (clock, changes)
    table = TunnelTable(database) { clock.now }
    let table = table
    _ = database.subscribe { table.handle($0, origin: $1) }
    table.onChange = { changes.all.append("\($0.name) \($0.state.rawValue)\($0.reason.map { ": \($0)" } ?? "")") }
  }

  private func name(_ number: Int) -> String { "from-10.0.\(number).0/24-to-10.1.\(number).0/24" }

  private func selector(_ number: Int) throws -> Selector {
    Selector(
      source: try #require(IPPrefix("10.0.\(number).0/24")), destination: try #require(IPPrefix("10.1.\(number).0/24")))
  }

  /// Out, in and forward, as charon installs them.
  @discardableResult
  private func addPolicies(
    _ number: Int, requestID: UInt32 = 0, owner: Owner = .xfrm(1), origin: UInt64 = 7
  ) throws -> [UInt32] {
    let selector = try selector(number)
    return try [(PolicyDirection.out, selector), (.in, selector.mirrored), (.forward, selector.mirrored)].map {
      let isOut = $0.0 == .out
      let template = SATemplate(
        source: isOut ? Self.here : Self.there, destination: isOut ? Self.there : Self.here, requestID: requestID)
      let policy = PolicyParameters(direction: $0.0, selector: $0.1, templates: [template], owner: owner)
      return try database.add(policy, replacing: false, origin: origin)
    }
  }

  private func sa(
    _ spi: UInt32, isOut: Bool = true, requestID: UInt32 = 0, owner: Owner = .xfrm(1), life: UInt64 = 0
  ) -> SAParameters {
    var sa = SAParameters(
      spi: spi, source: isOut ? Self.here : Self.there, destination: isOut ? Self.there : Self.here,
      transform: CryptoTransform(
        encryption: .aesGCM16, encryptionKey: SecretBytes((0..<20).map { _ in .random(in: 0...255) })),
      owner: owner)
    sa.requestID = requestID
    sa.hard.addTime = life
    return sa
  }

  private func rules(_ text: String) throws -> [IKEConnection] {
    try IPsecConf.parse(text: text, name: "ipsec.conf").connections()
  }

  private func statuses(_ query: TunnelQuery = TunnelQuery()) -> [TunnelStatus] {
    table.work()
    let digests = table.digests(from: 0, atMost: 10_000, withDrops: true) ?? []
    return table.statuses(query.chosen(digests)[...], query)
  }

  @Test func ruleIsUpRekeyedAndDown() throws {
    let rule = try rules("ike esp from 10.0.1.0/24 to 10.1.1.0/24 peer 192.0.2.2 psk secret\n")
    table.add(rule)
    table.work()
    var status = try #require(statuses().first)
    #expect(status.name == "from-10.0.1.0/24-to-10.1.1.0/24" && status.origin == .rule)
    #expect(status.state == .down && status.reason == nil && status.isConfigured && status.peer == Self.there)
    #expect(status.selectors == [try selector(1)])
    try addPolicies(1, requestID: 3)
    #expect(table.count == 1)
    try database.add(sa(0x1000, requestID: 3), origin: 7)
    try database.add(sa(0x1001, isOut: false, requestID: 3), origin: 7)
    clock.now = 1010
    status = try #require(statuses().first)
    #expect(status.state == .up && status.since == 1010 && status.comings == 1)
    #expect(status.associations?.map(\.spi) == [0x1000, 0x1001])
    #expect(status.associations?.map(\.isInbound) == [false, true])

    clock.now = 1020
    try database.add(sa(0x2000, requestID: 3), origin: 7)
    table.work()
    try database.delete(sa(0x1000).identifier, origin: 7)
    status = try #require(statuses().first)
    #expect(status.state == .up && status.since == 1010 && status.rekeys == 1 && status.lastRekey == 1020)

    clock.now = 1030
    try database.delete(sa(0x2000).identifier, origin: 7)
    status = try #require(statuses().first)
    #expect(status.state == .down && status.since == 1030 && status.reason == "the key daemon deleted its SAs")
    #expect(
      changes.all == [
        "\(status.name) up", "\(status.name) down: the key daemon deleted its SAs",
      ])
    #expect(table.counts.down == 1 && table.counts.all == 1)
    table.remove(rule)
    #expect(table.count == 0 && table.counts.all == 0)
  }

  @Test func bytesOutliveSAsAndPolicies() throws {
    table.add(try rules("ike esp from 10.0.1.0/24 to 10.1.1.0/24 peer 192.0.2.2 psk secret\n"))
    let indices = try addPolicies(1, requestID: 3)
    // Slots are given in turn: of the policies, then of the SA.
    counters.values = [:]
    try database.add(sa(0x1000, isOut: false, requestID: 3), origin: 7)
    for (place, index) in indices.enumerated() {
      let slot = try #require(self.slot(of: index))
      counters.values[slot] = gw_counters(
        packets: UInt64(place + 1), bytes: UInt64(place + 1) * 100, last_used: 1, integrity_failures: 0, replayed: 0,
        drops: 0)
    }
    var status = try #require(statuses().first)
    #expect(status.sent == .init(packets: 1, bytes: 100) && status.received == .init(packets: 5, bytes: 500))
    for index in indices { try database.deletePolicy(index: index, origin: 7) }
    status = try #require(statuses().first)
    #expect(status.sent == .init(packets: 1, bytes: 100) && status.received == .init(packets: 5, bytes: 500))
    #expect(status.state == .down)
    // The other order, as charon takes them away.
    for index in try addPolicies(1, requestID: 3).reversed() { try database.deletePolicy(index: index, origin: 7) }
    status = try #require(statuses().first)
    #expect(status.received == .init(packets: 5, bytes: 500))
  }

  /// The slot that a policy counts in: found by counting in each.
  private func slot(of index: UInt32) -> UInt32? {
    for slot in 0..<UInt32(64) where counters.values[slot] == nil {
      counters.values[slot] = gw_counters(
        packets: 77, bytes: 0, last_used: 0, integrity_failures: 0, replayed: 0, drops: 0)
      defer { counters.values[slot] = nil }
      if database.traffic(ofPolicy: index)?.packets == 77 { return slot }
    }
    return nil
  }

  @Test func dropsOutliveTheirSA() throws {
    try addPolicies(1, requestID: 3)
    try database.add(sa(0x1001, isOut: false, requestID: 3), origin: 7)
    for slot in 0..<UInt32(16) {
      counters.values[slot] = gw_counters(
        packets: 0, bytes: 0, last_used: 0, integrity_failures: 2, replayed: 3, drops: 6)
    }
    let expected: [String: UInt64] = ["replay": 3, "integrity": 2, "other": 1, "policy_no_sa": 6]
    #expect(try #require(statuses().first).drops == expected)
    try database.delete(sa(0x1001, isOut: false).identifier, origin: 7)
    #expect(try #require(statuses().first).drops == expected)
  }

  @Test func daemonsTunnelIsNamedAndRemembered() throws {
    let indices = try addPolicies(1, requestID: 9)
    try addPolicies(2, requestID: 9)
    try database.add(sa(0x1000, requestID: 9), origin: 7)
    var status = try #require(statuses().first)
    #expect(table.count == 1 && status.selectors.count == 2 && status.origin == .daemon)
    #expect(status.name == "from-10.0.1.0/24-to-10.1.1.0/24")
    var news = TunnelNews()
    news.children[9] = DaemonChild(requestID: 9, connection: "branch", name: "net", peer: Self.there)
    table.take(news)
    status = try #require(statuses().first)
    #expect(status.name == "branch/net" && status.state == .up)
    news = TunnelNews()
    news.complaints["branch"] = "giving up after 3 retransmits"
    table.take(news)
    try database.delete(sa(0x1000).identifier, origin: 7)
    for index in indices + (try self.indices(of: 2)) { try database.deletePolicy(index: index, origin: 7) }
    status = try #require(statuses().first)
    #expect(status.state == .down && !status.isConfigured && status.reason == "giving up after 3 retransmits")
    // It comes back under another request ID.
    try addPolicies(1, requestID: 10)
    try database.add(sa(0x3000, requestID: 10), origin: 7)
    status = try #require(statuses().first)
    #expect(table.count == 1 && status.isConfigured && status.state == .up && status.comings == 2)
    #expect(status.name == "branch/net")
  }

  private func indices(of number: Int) throws -> [UInt32] {
    let selector = try selector(number)
    return database.policies().filter { [selector, selector.mirrored].contains($0.parameters.selector) }.map(\.index)
  }

  @Test func departedTunnelsAreForgottenInTime() throws {
    let indices = try addPolicies(1, requestID: 9)
    try database.add(sa(0x1000, requestID: 9), origin: 7)
    table.work()
    for index in indices { try database.deletePolicy(index: index, origin: 7) }
    #expect(statuses().map(\.isConfigured) == [false])
    clock.now += 3700
    for _ in 0..<3 { table.work() }
    #expect(statuses().isEmpty && table.counts.all == 0)
    // One that never was up is nobody's loss.
    for index in try addPolicies(2, requestID: 8) { try database.deletePolicy(index: index, origin: 7) }
    #expect(statuses().isEmpty)
  }

  @Test func staticKeysAndWhatFlushes() throws {
    try addPolicies(1, owner: .configuration, origin: 0)
    var status = try #require(statuses().first)
    #expect(status.state == .down && status.reason == "ipsec.conf has no SA for it")
    try database.add(sa(0x1000, owner: .configuration), origin: 0)
    status = try #require(statuses().first)
    #expect(status.state == .static && status.origin == .configuration)
    table.doing = "flushed by gwctl"
    database.flushSAs(nil, owner: nil, origin: 0)
    table.doing = nil
    status = try #require(statuses().first)
    #expect(status.state == .down && status.reason == "flushed by gwctl")
    database.flushPolicies(owner: nil, origin: 0)
    #expect(statuses().isEmpty && table.counts.all == 0)
  }

  @Test func expiry() throws {
    try addPolicies(1, requestID: 3)
    try database.add(sa(0x1000, requestID: 3, life: 5), origin: 7)
    table.work()
    for moment in 2...8 { database.tick(now: UInt64(moment)) }
    let status = try #require(statuses().first)
    #expect(status.state == .down && status.reason == "the lifetime of its SAs ended")
  }

  @Test func rulesStates() throws {
    let rule = try rules("ike esp from 10.0.1.0/24 to 10.1.1.0/24 peer 192.0.2.2 psk secret\n")
    table.add(rule)
    table.take([IKEConnectionStatus(rule[0], .waiting)][...])
    #expect(statuses()[0].reason == "no key daemon answers")
    table.take([IKEConnectionStatus(rule[0], .loaded)][...])
    #expect(statuses()[0].reason == nil)
    var news = TunnelNews()
    news.asked = [TunnelNotes.Name(rule: rule[0].name, peer: rule[0].peerName)]
    table.take(news)
    #expect(statuses()[0].state == .connecting && table.counts.connecting == 1)
    news = TunnelNews()
    news.complaints[rule[0].peerName] = "received NO_PROPOSAL_CHOSEN error notify"
    table.take(news)
    let status = statuses()[0]
    #expect(status.state == .down && status.reason == "received NO_PROPOSAL_CHOSEN error notify")
    var connection = IKEConnectionStatus(rule[0], .loaded)
    connection.take(try #require(table.tunnel(rule: rule[0].name, peerName: rule[0].peerName)).life)
    #expect(connection.state == .down && connection.reason == "received NO_PROPOSAL_CHOSEN error notify")
  }

  /// A rule that comes after what the daemon made for it.
  @Test func ruleAdoptsWhatIsThere() throws {
    try addPolicies(1, requestID: 3)
    try database.add(sa(0x1000, requestID: 3), origin: 7)
    table.work()
    table.add(try rules("ike esp from 10.0.1.0/24 to 10.1.1.0/24 peer 192.0.2.2 psk secret\n"))
    let status = statuses()
    #expect(status.count == 1 && status[0].origin == .rule && status[0].state == .up)
    #expect(table.counts.all == 1)
  }

  @Test func eachTurnIsBounded() throws {
    for number in 0..<20 { try addPolicies(number) }
    #expect(!table.settle(atMost: 5))
    #expect(table.settle(atMost: 100))
    try database.add(sa(0x1000), origin: 7)
    #expect(!table.settle(atMost: 19))
    #expect(table.settle(atMost: 1))
    #expect(table.counts.up == 20)
    #expect(table.digests(from: 0, atMost: 5, withDrops: false)?.count == 5)
    #expect(table.digests(from: 20, atMost: 5, withDrops: false) == nil)
  }

  @Test func queries() throws {
    for number in [3, 1, 2] { try addPolicies(number, requestID: UInt32(number)) }
    try database.add(sa(0x1000, requestID: 2), origin: 7)
    var query = TunnelQuery()
    #expect(statuses(query).map(\.name) == [name(1), name(2), name(3)])
    query.states = [.up]
    #expect(statuses(query).map(\.name) == ["from-10.0.2.0/24-to-10.1.2.0/24"])
    query = TunnelQuery()
    query.order = .state
    query.limit = 2
    #expect(statuses(query).map(\.state) == [.down, .down])
    query = TunnelQuery()
    query.filter = "10.1.3"
    #expect(statuses(query).count == 1)
    query.filter = "192.0.2.2"
    #expect(statuses(query).count == 3)
    query.withAssociations = false
    #expect(statuses(query).allSatisfy { $0.associations == nil && $0.history == nil })
  }
}
