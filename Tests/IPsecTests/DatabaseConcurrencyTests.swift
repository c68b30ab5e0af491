import CLayout
import Foundation
import Synchronization
import Testing
import Wire

@testable import IPsec

@Suite struct DatabaseConcurrencyTests {
  /// Workers seal while the control thread changes the SA's limits and encapsulation: no sequence number is given out
  /// twice under one key, although the record that holds it is replaced.
  @Test func updatesNeverRepeatANumber() throws {
    let group = ReaderGroup(readers: 3)
    let database = SecurityDatabase(engine: FakeEngine(), workers: 3, reclaimer: group, now: 1)
    _ = try database.add(TestDatabase.flow(), replacing: false, origin: 0)
    try database.add(TestDatabase.sa(1000), origin: 0)
    let updates = 150
    let words = (updates + 2) * Int(SecurityDatabase.sequenceSkip) / 64 + 1 << 16
    let seen = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: words)
    for word in 0..<words { (seen + word).initialize(to: Atomic(0)) }
    let repeated = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 2)
    repeated.initialize(to: Atomic(0))
    (repeated + 1).initialize(to: Atomic(0))
    nonisolated(unsafe) let shared = (seen: seen, repeated: repeated)
    let tables = database.tables
    group.start { _, _ in
      var key = TestDatabase.key()
      for _ in 0..<16 {
        guard let sa = tables.spd.lookup(&key)?.loadSA(),
          sa.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_STOPPED.rawValue == 0
        else { continue }
        let number = sa.sequenceAtomic.pointee.wrappingAdd(1, ordering: .relaxed).newValue
        guard number < UInt64(words) * 64 else { continue }
        let bit: UInt64 = 1 << (number & 63)
        let old = shared.seen[Int(number >> 6)].bitwiseOr(bit, ordering: .relaxed).oldValue
        if old & bit != 0 { shared.repeated.pointee.wrappingAdd(1, ordering: .relaxed) }
        shared.repeated[1].wrappingAdd(1, ordering: .relaxed)
      }
    }
    for update in 1...updates {
      var sa = TestDatabase.sa(1000)
      sa.hard.bytes = UInt64(1_000_000 + update)
      try database.update(sa, origin: 0)
      group.reclaim()
      usleep(300)
    }
    group.join()
    #expect(repeated.pointee.load(ordering: .relaxed) == 0)
    #expect(repeated[1].load(ordering: .relaxed) > updates)
    seen.deallocate()
    repeated.deallocate()
  }

  /// Rekeys, both ways, while workers look up: an SA is there all the time, and what is found is whole.
  @Test func rekeysLeaveNoGap() throws {
    let group = ReaderGroup(readers: 2)
    let database = SecurityDatabase(engine: FakeEngine(), workers: 2, reclaimer: group, now: 1)
    database.isOwnAddress = { $0 == TestDatabase.here }
    _ = try database.add(TestDatabase.flow(), replacing: false, origin: 0)
    try database.add(TestDatabase.sa(1000), origin: 0)
    try database.add(TestDatabase.sa(900_000, out: false), origin: 0)
    let failures = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 1)
    failures.initialize(to: Atomic(0))
    nonisolated(unsafe) let shared = failures
    let tables = database.tables
    let here = UInt32(TestDatabase.here.halves.1)
    let there = TestDatabase.there.halves.1
    group.start { _, round in
      var key = TestDatabase.key()
      for i in 0..<16 {
        guard let sa = tables.spd.lookup(&key)?.loadSA(), sa.pointee.destination_low == there,
          sa.pointee.session != nil
        else {
          shared.pointee.wrappingAdd(1, ordering: .relaxed)
          continue
        }
        guard
          let inbound = tables.inbound.lookup(spi: UInt32(900_000).bigEndian, destination4: here, saProtocol: 50),
          inbound.record.pointee.session != nil
        else {
          shared.pointee.wrappingAdd(1, ordering: .relaxed)
          continue
        }
        _ = ReplayWindow.accept(inbound.record, sequence: UInt64(round * 16 + i + 1))
      }
    }
    for spi in UInt32(1001)...3000 {
      try database.add(TestDatabase.sa(spi), origin: 0)
      try database.add(TestDatabase.sa(spi + 100_000, out: false), origin: 0)
      try database.delete(TestDatabase.id(spi - 1), origin: 0)
      if spi > 1001 { try database.delete(TestDatabase.id(spi + 99_999, out: false), origin: 0) }
      if spi % 8 == 0 { group.reclaim() }
    }
    group.join()
    #expect(failures.pointee.load(ordering: .relaxed) == 0)
    failures.deallocate()
  }

  /// A hundred thousand SAs come and go within seconds.
  @Test func manySAs() throws {
    let count = 100_000
    let database = SecurityDatabase(
      engine: FakeEngine(), workers: 1, limits: DatabaseLimits(sas: count, policies: 10),
      reclaimer: ImmediateReclaimer(), now: 1)
    let start = DispatchTime.now().uptimeNanoseconds
    for number in 0..<count {
      try database.add(TestDatabase.sa(UInt32(1000 + number), out: number % 2 == 0), origin: 0)
    }
    #expect(throws: DatabaseError.self) { try database.add(TestDatabase.sa(999), origin: 0) }
    #expect(database.saCount() == count)
    database.tick(now: 2)
    for number in 0..<count {
      try database.delete(TestDatabase.id(UInt32(1000 + number), out: number % 2 == 0), origin: 0)
    }
    #expect(database.saCount() == 0 && database.sad.count == 0)
    #expect(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9 < 60)
  }
}
