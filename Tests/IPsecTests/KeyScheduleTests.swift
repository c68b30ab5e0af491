import CLayout
import Testing

@testable import IPsec

extension DatabaseSATests {
  /// No more key schedules than the limit says, for those SAs that have packets.
  @Suite struct KeyScheduleTests {
    private static let limit = 8

    private static func database(_ count: Int) throws -> TestDatabase {
      let test = TestDatabase(limits: DatabaseLimits(sas: 1000, policies: 1000, schedules: limit))
      for spi in 0..<count { try test.database.add(TestDatabase.sa(UInt32(1000 + spi)), origin: 0) }
      return test
    }

    private static func entry(_ test: TestDatabase, _ number: Int) throws -> SAEntry {
      try #require(test.database.find(TestDatabase.sa(UInt32(1000 + number)).identifier))
    }

    private static func isKeyed(_ entry: SAEntry) throws -> Bool {
      let sa = try #require(entry.sa)
      let isMarked = sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_UNKEYED.rawValue != 0
      // Never may a worker go for what is not there.
      #expect(isMarked || sa.pointee.session == entry.session?.base)
      return !isMarked
    }

    @Test func theFirstGetOneAndTheOthersWhenNeeded() throws {
      let test = try Self.database(20)
      for number in 0..<20 { #expect(try Self.isKeyed(Self.entry(test, number)) == (number < Self.limit)) }
      #expect(test.database.scheduleCount == Self.limit)
      var keyed: [UInt32] = []
      test.database.onKeyed = { keyed.append($0) }
      let entry = try Self.entry(test, 15)
      test.database.keysNeeded(serial: entry.serial)
      test.database.keysNeeded(serial: entry.serial)
      // One loses its own, but not before every worker has let go of it.
      #expect(try !Self.isKeyed(entry) && keyed.isEmpty && test.database.scheduleCount == Self.limit)
      let marked = try (0..<Self.limit).filter { try !Self.isKeyed(Self.entry(test, $0)) }
      #expect(marked.count == 1)
      #expect(try Self.entry(test, marked[0]).session != nil)
      test.reclaimer.pass()
      #expect(try Self.isKeyed(entry) && keyed == [entry.serial] && test.database.scheduleCount == Self.limit)
      #expect(try Self.entry(test, marked[0]).session == nil)
    }

    @Test func theOneThatWasNotUsedForLongestGoes() throws {
      let test = try Self.database(20)
      for number in 0..<Self.limit {
        let slot = try Self.entry(test, number).slot
        test.counters.values[slot] = gw_counters()
        test.counters.values[slot]?.last_used = number == 5 ? 900 : 1000
      }
      test.database.keysNeeded(serial: try Self.entry(test, 10).serial)
      #expect(try !Self.isKeyed(Self.entry(test, 5)))
    }

    @Test func whatIsNeededWhileItIsGivenUpStays() throws {
      let test = try Self.database(9)
      test.database.keysNeeded(serial: try Self.entry(test, 8).serial)
      let leaving = try #require((0..<Self.limit).first { (try? Self.isKeyed(Self.entry(test, $0))) == false })
      let entry = try Self.entry(test, leaving)
      test.database.keysNeeded(serial: entry.serial)
      #expect(try Self.isKeyed(entry))
      while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
      #expect(try Self.isKeyed(entry) && Self.isKeyed(Self.entry(test, 8)))
      #expect(test.database.scheduleCount == Self.limit)
    }

    /// The engine fails once: the SA's next packet may ask again.
    @Test func whatFailedIsAskedForAgain() throws {
      let test = try Self.database(9)
      let entry = try Self.entry(test, 8)
      let sa = try #require(entry.sa)
      try test.database.delete(Self.entry(test, 0).identifier, origin: 0)
      while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
      sa.statusAtomic.pointee.bitwiseOr(GW_SA_KEYS_ASKED.rawValue, ordering: .relaxed)
      test.engine.refusals.value.store(1, ordering: .relaxed)
      test.database.keysNeeded(serial: entry.serial)
      #expect(try !Self.isKeyed(entry))
      #expect(sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_KEYS_ASKED.rawValue == 0)
      test.database.keysNeeded(serial: entry.serial)
      #expect(try Self.isKeyed(entry))
    }

    @Test func deletedSAsMakeRoom() throws {
      let test = try Self.database(20)
      let waiting = try Self.entry(test, 12)
      test.database.keysNeeded(serial: waiting.serial)
      for number in 0..<Self.limit { try test.database.delete(Self.entry(test, number).identifier, origin: 0) }
      while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
      #expect(try Self.isKeyed(waiting) && test.database.scheduleCount == 1)
      try test.database.add(TestDatabase.sa(5000), origin: 0)
      #expect(test.database.scheduleCount == 2)
    }

    @Test func badKeysAreRefusedWithoutRoom() throws {
      let test = try Self.database(Self.limit)
      var sa = TestDatabase.sa(9999)
      sa.transform.encryptionKey = .empty
      #expect(throws: DatabaseError.self) { try test.database.add(sa, origin: 0) }
      #expect(test.database.saCount() == Self.limit && test.database.scheduleCount == Self.limit)
    }

    @Test func manyComeAndGo() throws {
      let test = try Self.database(0)
      for round in 0..<6_000 {
        let sa = TestDatabase.sa(UInt32(1000 + round % 500))
        if test.database.find(sa.identifier) != nil { try test.database.delete(sa.identifier, origin: 0) }
        try test.database.add(sa, origin: 0)
        if round % 3 == 0, let entry = test.database.find(sa.identifier) {
          test.database.keysNeeded(serial: entry.serial)
        }
        test.reclaimer.pass()
        #expect(test.database.scheduleCount <= Self.limit)
      }
      #expect(test.database.schedules.ringCount < 2 * Self.limit + 4_200)
      test.database.flushSAs(nil, owner: nil, origin: 0)
      while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
      #expect(test.database.scheduleCount == 0)
    }
  }
}
