import CLayout
import Glibc
import SeededRandom
import Testing
import Wire

@testable import IPsec

@Suite struct DatabaseLifetimeTests {
  /// Whenever it is first asked for: the gateway's clock may have gone on by then and not been told.
  @Test func whatWasAddedIsNotInTheFuture() throws {
    let database = SecurityDatabase(engine: FakeEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
    usleep(1_200_000)
    try database.add(TestDatabase.sa(1000), origin: 0)
    #expect(try #require(database.records().first).usage.added <= UInt64(time(nil)))
    database.tick(now: 2)
    try database.add(TestDatabase.sa(1001), origin: 0)
    for record in database.records() { #expect(record.usage.added <= UInt64(time(nil))) }
  }

  @Test func timeSinceAdd() throws {
    let test = TestDatabase()
    _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    var sa = TestDatabase.sa(1000)
    sa.soft.addTime = 80
    sa.hard.addTime = 100
    try test.database.add(sa, origin: 0)
    let layout = try #require(test.gwSA(1000))
    _ = test.takeEvents()
    test.database.tick(now: 1079)
    #expect(test.takeEvents().isEmpty)
    test.database.tick(now: 1080)
    #expect(test.takeEvents() == ["soft 1000 dying"])
    #expect(test.outboundSPI() == 1000)
    test.database.tick(now: 1099)
    #expect(test.takeEvents().isEmpty)
    // The clock may leap.
    test.database.tick(now: 1200)
    #expect(test.takeEvents() == ["hard 1000 dead"])
    #expect(layout.pointee.status & GW_SA_STOPPED.rawValue != 0)
    #expect(test.outboundSPI() == 0 && test.database.saCount() == 0)
  }

  @Test func aDyingSAGivesWayToAMatureOne() throws {
    let test = TestDatabase()
    _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    var newer = TestDatabase.sa(1001)
    newer.soft.addTime = 10
    try test.database.add(newer, origin: 0)
    #expect(test.outboundSPI() == 1001)
    test.database.tick(now: 1010)
    #expect(test.outboundSPI() == 1000)
    try test.database.delete(TestDatabase.id(1000), origin: 0)
    #expect(test.outboundSPI() == 1001)
    // New lifetimes revive it.
    newer.soft.addTime = 1000
    try test.database.update(newer, origin: 0)
    #expect(test.record(1001)?.state == .mature)
  }

  @Test func timeSinceFirstUse() throws {
    let test = TestDatabase()
    var sa = TestDatabase.sa(1000)
    sa.soft.useTime = 100
    sa.hard.useTime = 200
    try test.database.add(sa, origin: 0)
    let slot = try #require(test.gwSA(1000)).pointee.slot
    for second in 1001...2000 as ClosedRange<UInt64> { test.database.tick(now: second) }
    _ = test.takeEvents()
    test.counters.values[slot] = gw_counters(
      packets: 1, bytes: 1, last_used: 2001, integrity_failures: 0, replayed: 0, drops: 0)
    var softAt: UInt64 = 0
    for second in 2001...2250 as ClosedRange<UInt64> {
      test.database.tick(now: second)
      for event in test.takeEvents() {
        if event.hasPrefix("soft") { softAt = second }
        if event.hasPrefix("hard") {
          #expect((2196...2201).contains(second))
          #expect((2096...2101).contains(softAt))
          return
        }
      }
    }
    Issue.record("did not expire")
  }

  @Test func whatWorkersReport() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    let serial = try #require(test.gwSA(1000)).pointee.serial
    _ = test.takeEvents()
    test.database.limitReached(serial: serial, hard: false)
    test.database.limitReached(serial: serial, hard: false)
    #expect(test.takeEvents() == ["soft 1000 dying"])
    test.database.limitReached(serial: serial, hard: true)
    test.database.limitReached(serial: serial, hard: true)
    test.database.limitReached(serial: 4711, hard: true)
    #expect(test.takeEvents() == ["hard 1000 dead"])
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    test.database.sequenceExhausted(serial: try #require(test.gwSA(1000)).pointee.serial)
    #expect(test.takeEvents() == ["added 1000", "hard 1000 dead"])
  }

  @Test func mapping() throws {
    let test = TestDatabase()
    var sa = TestDatabase.sa(2000, out: false)
    sa.encapsulation = UDPEncapsulation()
    try test.database.add(sa, origin: 0)
    try test.database.add(TestDatabase.sa(2001, out: false), origin: 0)
    _ = test.takeEvents()
    let address = IPAddress("203.0.113.80")!
    for spi in 2000...2001 as ClosedRange<UInt32> {
      test.database.mappingChanged(
        serial: try #require(test.gwSA(spi, out: false)).pointee.serial, address: address, port: 1024)
    }
    #expect(test.takeEvents() == ["mapping 2000 203.0.113.80 1024"])
    // Where it is expected.
    let layout = try #require(test.gwSA(2000, out: false)).pointee
    #expect(layout.peer == TestDatabase.there.halves.1 << 32 | 4500)
    test.database.mappingChanged(serial: layout.serial, address: TestDatabase.there, port: 4500)
    #expect(test.takeEvents().isEmpty)
  }

  @Test func theWheelIsExact() {
    var random = SeededGenerator()
    var wheel = TimerWheel(now: 5_000_000_000)
    var deadlines: [UInt32: UInt64] = [:]
    var entries: [SAEntry] = []
    for serial in 1...3000 as ClosedRange<UInt32> {
      let entry = SAEntry(
        parameters: TestDatabase.sa(1000), state: .mature, serial: serial, order: 0, now: 0, isInbound: false)
      entries.append(entry)
      let span: UInt64 = [1, 300, 70_000, 900_000].randomElement(using: &random)!
      let deadline = wheel.now + .random(in: 1...span, using: &random)
      wheel.schedule(entry, at: deadline)
      deadlines[serial] = deadline
    }
    for entry in entries.prefix(500) {
      wheel.cancel(entry)
      deadlines[entry.serial] = nil
    }
    let start = wheel.now
    while wheel.now < start + 900_000 {
      let step = UInt64.random(in: 1...500, using: &random)
      let before = wheel.now
      for entry in wheel.advance(to: before + step) {
        let deadline = deadlines.removeValue(forKey: entry.serial)
        if deadline == nil || deadline! <= before || deadline! > before + step {
          Issue.record("seed \(random.seed): \(entry.serial) due \(deadline ?? 0) at \(before)+\(step)")
        }
      }
    }
    #expect(deadlines.isEmpty && wheel.count == 0)
    // A leap.
    wheel.schedule(entries[0], at: wheel.now + 4_000_000)
    wheel.schedule(entries[1], at: wheel.now + 90_000_000)
    #expect(wheel.advance(to: wheel.now + 5_000_000).map(\.serial) == [1])
    #expect(wheel.advance(to: wheel.now + 90_000_000).map(\.serial) == [2])
  }
}

@Suite struct DatabaseAcquireTests {
  @Test func oneQuestionForEachPolicyAndPeer() throws {
    let test = TestDatabase()
    let index = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    var key = TestDatabase.key()
    let policy = try #require(test.database.tables.spd.lookup(&key))
    policy.acquirePendingAtomic.pointee.store(1, ordering: .relaxed)
    _ = test.takeEvents()
    test.database.acquire(policyIndex: index, key: key)
    test.database.acquire(policyIndex: index, key: key)
    let events = test.takeRawEvents()
    guard events.count == 1, case .acquire(let request) = events[0].event else {
      Issue.record("\(events)")
      return
    }
    #expect(request.policy.index == index && request.sequence == 1)
    #expect(request.packet.source == IPPrefix("192.168.60.5"))
    #expect(request.packet.destinationPorts == 80...80)
    #expect(request.template.destination == TestDatabase.there)
    test.database.tick(now: 1029)
    #expect(policy.pointee.acquire_pending == 1)
    // Nobody answered.
    test.database.tick(now: 1030)
    #expect(test.takeEvents() == ["acquire expired 1"])
    #expect(policy.pointee.acquire_pending == 0 && test.database.acquiresOutstanding == 0)
    // Answered.
    policy.acquirePendingAtomic.pointee.store(1, ordering: .relaxed)
    test.database.acquire(policyIndex: index, key: key)
    #expect(test.database.acquiresOutstanding == 1)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    #expect(policy.pointee.acquire_pending == 0 && test.database.acquiresOutstanding == 0)
    // Too late: there is one now.
    policy.acquirePendingAtomic.pointee.store(1, ordering: .relaxed)
    test.database.acquire(policyIndex: index, key: key)
    #expect(policy.pointee.acquire_pending == 0)
    #expect(test.takeEvents() == ["acquire 2", "added 1000"])
    test.database.acquire(policyIndex: 4711, key: key)
  }

  /// The peer sends in clear: the SAs of the traffic the other way are asked for, once; those that stand are not.
  @Test(arguments: [false, true]) func packetsInClearAsk(hasCounterpart: Bool) throws {
    let test = TestDatabase()
    if hasCounterpart { _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0) }
    let inbound = TestDatabase.flow(TestDatabase.traffic.mirrored, direction: .in)
    let index = try test.database.add(inbound, replacing: false, origin: 0)
    var key = TestDatabase.key("172.20.1.7", "192.168.60.5", direction: UInt8(GW_IN.rawValue))
    let policy = try #require(test.database.tables.spd.lookup(&key))
    func ask() {
      policy.acquirePendingAtomic.pointee.store(1, ordering: .relaxed)
      test.database.acquire(policyIndex: index, key: key)
    }
    _ = test.takeEvents()
    ask()
    let events = test.takeRawEvents()
    guard events.count == 1, case .acquire(let request) = events[0].event else {
      Issue.record("\(events)")
      return
    }
    #expect(request.policy.parameters.direction == (hasCounterpart ? .out : .in))
    #expect(request.packet.source == IPPrefix(hasCounterpart ? "192.168.60.5" : "172.20.1.7"))
    // A worker may ask again in the next second, and there is one question still.
    #expect(policy.pointee.acquire_pending == 1)
    test.database.tick(now: 1001)
    #expect(policy.pointee.acquire_pending == 0)
    ask()
    #expect(test.takeEvents() == [])
    test.database.tick(now: 1031)
    #expect(test.takeEvents() == ["acquire expired 1"])
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    ask()
    #expect(test.takeEvents() == ["added 1000"] && test.database.acquiresOutstanding == 0)
  }

  @Test func aPolicyForManyPeersAsksForEach() throws {
    let test = TestDatabase()
    let selector = Selector(source: IPPrefix(TestDatabase.here), destination: IPPrefix("203.0.113.0/24")!)
    let template = TestDatabase.template(requestID: 3, mode: .transport)
    let index = try test.database.add(
      TestDatabase.policy(selector, templates: [template]), replacing: false, origin: 0)
    _ = test.takeEvents()
    for host in [7, 8, 7] {
      test.database.acquire(policyIndex: index, key: TestDatabase.key("198.51.100.1", "203.0.113.\(host)"))
    }
    #expect(test.takeEvents() == ["acquire 1", "acquire 2"])
    // The SA that answers carries the number.
    var sa = TestDatabase.sa(1000, peer: IPAddress("203.0.113.7")!, requestID: 3, mode: .transport)
    sa.keySequence = 1
    try test.database.add(sa, origin: 0)
    #expect(test.database.acquiresOutstanding == 1)
    test.database.acquireFailed(sequence: 2)
    #expect(test.database.acquiresOutstanding == 0)
  }

  @Test func limitsHoldFloodsBack() throws {
    let test = TestDatabase(limits: DatabaseLimits(sas: 10, policies: 100, acquires: 8, acquiresPerSecond: 5))
    for host in 1...20 {
      let selector = Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("172.20.1.\(host)")!)
      let index = try test.database.add(TestDatabase.flow(selector), replacing: false, origin: 0)
      test.database.acquire(policyIndex: index, key: TestDatabase.key("10.1.1.1", "172.20.1.\(host)"))
    }
    #expect(test.database.acquiresOutstanding == 5 && test.database.acquiresSuppressed == 15)
    test.database.tick(now: 1001)
    for record in test.database.policies().suffix(15) {
      test.database.acquire(
        policyIndex: record.index, key: TestDatabase.key("10.1.1.1", "172.20.1.\(record.index)"))
    }
    #expect(test.database.acquiresOutstanding == 8)
    test.database.flushPolicies(owner: nil, origin: 0)
    #expect(test.database.acquiresOutstanding == 0)
  }

  @Test func clearTrafficFromThePeerAsksForTheWayOut() throws {
    let test = TestDatabase()
    let out = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    let into = try test.database.add(
      TestDatabase.flow(TestDatabase.traffic.mirrored, direction: .in), replacing: false, origin: 0)
    _ = test.takeEvents()
    test.database.acquire(
      policyIndex: into, key: TestDatabase.key("172.20.1.7", "192.168.60.5", direction: 0))
    guard case .acquire(let request)? = test.takeRawEvents().first?.event else {
      Issue.record("no acquire")
      return
    }
    #expect(request.policy.index == out)
    #expect(request.packet.source == IPPrefix("192.168.60.5"))
  }
}
