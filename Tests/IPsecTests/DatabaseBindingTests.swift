import SeededRandom
import Testing
import Wire

@testable import IPsec

/// What is done for speed when an SA comes or goes leaves every policy with the SAs that a search of all would give.
@Suite(.serialized) struct DatabaseBindingTests {
  private static let peers = [TestDatabase.there, IPAddress("203.0.113.10")!]

  private func policy(_ number: Int, _ random: inout SeededGenerator) -> PolicyParameters {
    // Hosts, which an SA's selector covers or not, and networks, of which it may cover a part.
    let destination = IPPrefix(IPAddress("10.0.0.\(number % 40)")!, length: random.below(3) == 0 ? 28 : 32)!
    let selector = Selector(source: IPPrefix("192.168.60.0/24")!, destination: destination)
    var template = SATemplate(
      mode: random.below(8) == 0 ? .transport : .tunnel, source: TestDatabase.here,
      destination: Self.peers[random.below(2)], requestID: UInt32(random.below(3)))
    if random.below(4) == 0 { template.spi = UInt32(1000 + random.below(60)) }
    template.isOptional = template.mode == .transport && random.below(2) == 0
    var policy = TestDatabase.policy(selector, templates: [template])
    if random.below(6) == 0 {
      var inner = template
      inner.saProtocol = .ah
      inner.spi = 0
      policy.templates = [inner, template]
    }
    return policy
  }

  private func sa(_ random: inout SeededGenerator) -> SAParameters {
    var sa = TestDatabase.sa(
      UInt32(1000 + random.below(60)), peer: Self.peers[random.below(2)], requestID: UInt32(random.below(3)),
      saProtocol: random.below(6) == 0 ? .ah : .esp, mode: random.below(8) == 0 ? .transport : .tunnel)
    if random.below(4) != 0 {
      sa.selector = Selector(
        source: IPPrefix("192.168.60.0/24")!, destination: IPPrefix("10.0.0.\(8 * random.below(5))/29")!)
    }
    sa.soft.addTime = UInt64(random.below(20))
    sa.hard.addTime = sa.soft.addTime == 0 ? 0 : sa.soft.addTime + 5
    return sa
  }

  @Test func policiesHaveTheBestSAs() throws {
    var random = SeededGenerator.printed("policiesHaveTheBestSAs")
    let test = TestDatabase()
    let database = test.database
    var (bound, parts) = (0, 0)
    for step in 0..<1000 {
      switch random.below(10) {
      case 0...3: try? database.add(sa(&random), origin: 0)
      case 4, 5:
        if let doomed = database.entries.values.min(by: { $0.serial &* 7 % 31 < $1.serial &* 7 % 31 }) {
          try database.delete(doomed.identifier, origin: 0)
        }
      case 6, 7: _ = try? database.add(policy(step, &random), replacing: true, origin: 0)
      case 8:
        if let index = database.policyEntries.keys.min(), database.policyEntries.count > 20 {
          try database.deletePolicy(index: index, origin: 0)
        }
      default: database.tick(now: database.now + 1)
      }
      for entry in database.policyEntries.values {
        let bindings = bindings(entry)
        database.rebind(entry)
        try #require(self.bindings(entry) == bindings, "step \(step), policy \(entry.index)")
        if !entry.chain.isEmpty { bound += 1 }
        parts += entry.parts.count
        if step % 4 == 0 { try check(entry, database, "step \(step), policy \(entry.index)") }
      }
      if step % 50 == 0 { test.reclaimer.pass() }
    }
    #expect(bound > 100 && parts > 0, "\(bound) bound, \(parts) parts")
  }

  /// What the policy and its parts are bound to, by the selector of each.
  private func bindings(_ entry: PolicyEntry) -> [Selector: [UInt]] {
    var bindings = entry.parts.mapValues { $0.chain.map(UInt.init) + [UInt(bitPattern: $0.policy.loadSA())] }
    bindings[entry.parameters.selector] = entry.chain.map(UInt.init) + [UInt(bitPattern: entry.policy.loadSA())]
    return bindings
  }

  /// A packet of the policy has the SA that a search of all gives, as Linux makes it: of those that fit and whose
  /// selector has the packet, a mature one before one that is dying, then the newest.
  private func check(_ entry: PolicyEntry, _ database: SecurityDatabase, _ place: Comment) throws {
    guard entry.parameters.templates.count == 1, let need = entry.needs?.first, need.spi == 0 else { return }
    let destination = entry.parameters.selector.destination
    for last in 0..<40 as Range<UInt8> {
      let packet = Selector(source: IPPrefix("192.168.60.5")!, destination: IPPrefix("10.0.0.\(last)")!, ipProtocol: 17)
      guard destination.contains(packet.destination) else { continue }
      let best = database.entries.values.filter {
        !$0.isInbound && $0.isUsable && $0.saProtocol == need.key.saProtocol && $0.destination == need.key.peer
          && (need.key.requestID == 0 || need.key.requestID == $0.requestID) && $0.mode == need.mode
          && ($0.parameters.selector?.covers(packet) ?? true)
      }.max { ($0.state == .mature ? 1 : 0, $0.order) < ($1.state == .mature ? 1 : 0, $1.order) }
      let part = entry.parts.first { $0.key.covers(packet) }
      #expect((part?.value.chain ?? entry.chain) == (best.map { [$0.serial] } ?? []), place)
      #expect(entry.hasSA(for: packet) == (best != nil), place)
    }
  }
}
