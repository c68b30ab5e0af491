import IPsec
import SeededRandom
import Synchronization
import Testing
import Wire

@testable import Routing

@Suite struct ForwardingTableTests {
  private func table() -> ForwardingTable { ForwardingTable(reclaimer: ImmediateReclaimer()) }

  @Test func nothingMatchesAnEmptyTable() {
    let table = table()
    for text in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
      #expect(table.fib.lookup(address(text)) == 0)
    }
  }

  @Test func theLongestPrefixWins() throws {
    let table = table()
    let routes: [(String, UInt32)] = [
      ("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.0/16", 3), ("10.1.2.0/23", 4), ("10.1.3.0/24", 5), ("10.1.3.7", 6),
      ("10.128.0.0/9", 7), ("::/0", 11), ("2001:db8::/32", 12), ("2001:db8::/127", 13), ("2001:db8::1", 14),
    ]
    for (text, index) in routes.shuffled() { try table.insert(prefix(text), adjacency: index) }
    let answers: [(String, UInt32)] = [
      ("9.255.255.255", 1), ("10.0.0.0", 2), ("10.127.255.255", 2), ("10.128.0.0", 7), ("10.255.255.255", 7),
      ("11.0.0.0", 1), ("10.1.1.255", 3), ("10.1.2.0", 4), ("10.1.3.0", 5), ("10.1.3.6", 5), ("10.1.3.7", 6),
      ("10.1.3.8", 5), ("10.1.4.0", 3), ("2001:db7:ffff::", 11), ("2001:db8::", 13), ("2001:db8::1", 14),
      ("2001:db8::2", 12), ("2001:db9::", 11),
    ]
    for (text, index) in answers { #expect(table.fib.lookup(address(text)) == index, "\(text)") }
  }

  @Test func removalUncoversTheShorterPrefixAndGivesTheNodesBack() throws {
    let reclaimer = HeldReclaimer()
    let table = ForwardingTable(reclaimer: reclaimer)
    try table.insert(prefix("10.0.0.0/8"), adjacency: 1)
    try table.insert(prefix("10.1.2.3"), adjacency: 2)
    #expect(table.nodeCount == 3)
    try table.insert(prefix("10.1.0.0/16"), adjacency: 3)
    #expect(table.remove(prefix("10.1.2.3")))
    #expect(table.fib.lookup(address("10.1.2.3")) == 3)
    #expect(table.nodeCount == 1)
    #expect(reclaimer.count == 1, "the nodes wait for their readers")
    #expect(table.remove(prefix("10.1.0.0/16")))
    #expect(table.fib.lookup(address("10.1.2.3")) == 1)
    #expect(!table.remove(prefix("10.1.0.0/16")))
    #expect(table.remove(prefix("10.0.0.0/8")))
    #expect(table.fib.lookup(address("10.1.2.3")) == 0)
    #expect(table.nodeCount == 0)
    #expect(table.count == 0)
  }

  @Test func aFullTableRefusesAndStaysAsItWas() throws {
    let table = ForwardingTable(reclaimer: ImmediateReclaimer(), maximumNodes: 3)
    try table.insert(prefix("10.1.2.3"), adjacency: 1)
    #expect(throws: RoutingError.self) { try table.insert(prefix("11.1.2.3"), adjacency: 2) }
    #expect(table.fib.lookup(address("11.1.2.3")) == 0)
    #expect(table.count == 1)
    try table.insert(prefix("10.1.2.4"), adjacency: 3)
    #expect(table.fib.lookup(address("10.1.2.4")) == 3)
    #expect(table.fib.lookup(address("10.1.2.3")) == 1)
  }

  /// Random insertions, changes and removals against a list that is searched from end to end.
  @Test(arguments: [AddressFamily.v4, .v6], [true, false])
  func agreesWithALinearSearch(family: AddressFamily, clustered: Bool) throws {
    var generator = SeededGenerator.printed("ForwardingTable \(family) clustered \(clustered)")
    let table = table()
    var model: [IPPrefix: UInt32] = [:]
    for step in 0..<3000 {
      let length = UInt8.random(in: 0...family.bits, using: &generator)
      let candidate = IPPrefix(.random(family, clustered: clustered, using: &generator), length: length)!
      if step % 3 == 2, let victim = model.keys.randomElement(using: &generator) {
        #expect(table.remove(victim))
        model[victim] = nil
      } else {
        let index = UInt32.random(in: 1...UInt32.max, using: &generator)
        try table.insert(candidate, adjacency: index)
        model[candidate] = index
      }
      guard step % 10 == 0 else { continue }
      for _ in 0..<20 { check(table, model, .random(family, clustered: clustered, using: &generator)) }
      if let known = model.keys.randomElement(using: &generator) { checkEdges(table, model, known) }
    }
    for known in model.keys.shuffled(using: &generator) { #expect(table.remove(known)) }
    #expect(table.nodeCount == 0)
    #expect(table.fib.lookup(.random(family, clustered: clustered, using: &generator)) == 0)
  }

  private func check(_ table: ForwardingTable, _ model: [IPPrefix: UInt32], _ destination: IPAddress) {
    let best = model.filter { $0.key.contains(destination) }.max { $0.key.length < $1.key.length }
    #expect(table.fib.lookup(destination) == best?.value ?? 0, "\(destination)")
  }

  /// The first and last address of a prefix and their neighbours outside.
  private func checkEdges(_ table: ForwardingTable, _ model: [IPPrefix: UInt32], _ known: IPPrefix) {
    let (high, low) = known.address.halves
    check(table, model, known.address)
    if known.family == .v4 {
      let first = UInt32(low)
      let last = first | (known.length == 0 ? .max : known.length == 32 ? 0 : .max >> UInt32(known.length))
      for raw in [first &- 1, last, last &+ 1] { check(table, model, .v4(IPv4Address(rawValue: raw))) }
    } else {
      let lastHigh = known.length >= 64 ? high : high | .max >> UInt64(known.length)
      let lastLow =
        known.length <= 64 ? UInt64.max : known.length == 128 ? low : low | .max >> UInt64(known.length - 64)
      check(table, model, .v6(IPv6Address(high: lastHigh, low: lastLow)))
      check(table, model, .v6(IPv6Address(high: lastHigh &+ (lastLow == .max ? 1 : 0), low: lastLow &+ 1)))
      check(table, model, .v6(IPv6Address(high: low == 0 ? high &- 1 : high, low: low &- 1)))
    }
  }

  @Test func aLonePrefixNeedsNoNodesOfItsOwn() throws {
    let reclaimer = HeldReclaimer()
    let table = ForwardingTable(reclaimer: reclaimer)
    try table.insert(prefix("2001:db8::1"), adjacency: 1)
    #expect(table.nodeCount == 0)
    try table.insert(prefix("2001:db8::1"), adjacency: 2)
    #expect(table.fib.lookup(address("2001:db8::1")) == 2)
    #expect(table.fib.lookup(address("2001:db8::2")) == 0)
    try table.insert(prefix("2000::/3"), adjacency: 3)
    #expect(table.fib.lookup(address("2001:db8::1")) == 2)
    #expect(table.fib.lookup(address("2001:db8::2")) == 3)
    // They part at the fourth byte.
    try table.insert(prefix("2001:db9::/64"), adjacency: 4)
    #expect(table.nodeCount == 3)
    #expect(table.fib.lookup(address("2001:db8::1")) == 2)
    #expect(table.fib.lookup(address("2001:db9::1")) == 4)
    #expect(table.fib.lookup(address("2001:db9:0:1::")) == 3)
    // One that ends within the way to the other.
    try table.insert(prefix("2001:db9::/36"), adjacency: 5)
    #expect(table.fib.lookup(address("2001:db9:0:1::")) == 5)
    #expect(table.fib.lookup(address("2001:db9::1")) == 4)
    for text in ["2001:db9::/64", "2001:db8::1", "2000::/3", "2001:db9::/36"] { #expect(table.remove(prefix(text))) }
    #expect(table.nodeCount == 0)
    #expect(table.fib.lookup(address("2001:db9::1")) == 0)
    reclaimer.release()
  }

  /// While prefixes inside one of 8 bits come and go, a reader finds under it only what has ever covered the address, and
  /// outside it nothing.
  @Test(arguments: [AddressFamily.v4, .v6]) func readersNeverSeeAStrangersAnswer(family: AddressFamily) throws {
    let grace = ThreadGrace()
    let table = ForwardingTable(reclaimer: grace)
    try table.insert(IPPrefix(Self.inside(family, 0), length: 8)!, adjacency: 8)
    let fib = table.fib
    let wrong = Atomic<Int>(0)
    let lookups = Atomic<Int>(0)
    let stop = Atomic<Bool>(false)
    withThreads(2) { _ in
      let slot = grace.register()
      var generator = SeededGenerator(seed: UInt64(slot))
      while !stop.load(ordering: .relaxed) {
        for _ in 0..<64 {
          let inside = Self.inside(family, generator.next())
          // Adjacency n stands for a prefix of length n: 8, 16, 20, 24, 28, 32.
          let answer = fib.lookup(inside)
          if answer < 8 || answer > 32 || answer % 4 != 0 { wrong.add(1, ordering: .relaxed) }
          let outside: UInt32 =
            switch inside {
            case .v4(let address): fib.lookup(v4: address.rawValue ^ 0x0100_0000)
            case .v6(let address): fib.lookup(v6High: address.high ^ 1 << 56, low: address.low)
            }
          if outside != 0 { wrong.add(1, ordering: .relaxed) }
        }
        lookups.add(128, ordering: .relaxed)
        grace.quiescent(slot)
      }
      grace.unregister(slot)
    } during: {
      var generator = SeededGenerator.printed("concurrent readers \(family)")
      for _ in 0..<20_000 {
        let length: UInt8 = [16, 20, 24, 28, 32].randomElement(using: &generator)!
        let changed = IPPrefix(Self.inside(family, generator.next()), length: length)!
        if generator.next() % 2 == 0 {
          try? table.insert(changed, adjacency: UInt32(length))
        } else {
          table.remove(changed)
        }
        grace.poll()
      }
      stop.store(true, ordering: .relaxed)
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(lookups.load(ordering: .relaxed) > 0)
    grace.drain()
    withExtendedLifetime(table) {}
  }

  /// An address under the first byte 10; few of the others vary.
  private static func inside(_ family: AddressFamily, _ random: UInt64) -> IPAddress {
    let raw = 0x0a00_0000 | UInt32(truncatingIfNeeded: random) & 0x0003_0303
    return family == .v4
      ? .v4(IPv4Address(rawValue: raw)) : .v6(IPv6Address(high: UInt64(raw) << 32, low: random >> 40))
  }
}
