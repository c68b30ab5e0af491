import SeededRandom
import Testing
import Wire

@testable import IPsec

/// What is done for speed when an SA comes or goes leaves every policy with the SAs that a search of all would give.
@Suite(.serialized) struct DatabaseBindingTests {
  private static let peers = [TestDatabase.there, IPAddress("203.0.113.10")!]

  private func policy(_ number: Int, _ random: inout SeededGenerator) -> PolicyParameters {
    let host = IPPrefix(IPAddress("10.0.0.\(number % 40)")!)
    let selector = Selector(source: IPPrefix("192.168.60.0/24")!, destination: host)
    var template = SATemplate(
      mode: random.below(8) == 0 ? .transport : .tunnel, source: TestDatabase.here,
      destination: Self.peers[random.below(2)], requestID: UInt32(random.below(3)))
    if random.below(4) == 0 { template.spi = UInt32(1000 + random.below(60)) }
    template.isOptional = random.below(4) == 0
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
    if random.below(4) == 0 {
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
    var bound = 0
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
        let (chain, sa) = (entry.chain, entry.policy.loadSA())
        database.rebind(entry)
        try #require(entry.chain == chain && entry.policy.loadSA() == sa, "step \(step), policy \(entry.index)")
        if !chain.isEmpty { bound += 1 }
      }
      if step % 50 == 0 { test.reclaimer.pass() }
    }
    #expect(bound > 1000)
  }
}
