import CLayout
import Engines
import Testing
import Wire

@testable import IPsec

/// A journal in memory that refuses on demand.
final class MemoryJournal: NumberJournal {
  var records: [NumberRecord] = []
  var refuses = false
  var takesMore = true
  var synced = 0
  var rewrites = 0

  var recordCount: Int { records.count }

  func append(_ records: [NumberRecord], isSynced: Bool) throws(NumberJournalError) {
    guard !refuses else { throw NumberJournalError("No space left on device") }
    self.records += records
    if isSynced { synced += 1 }
  }

  func replace(_ records: [NumberRecord]) throws(NumberJournalError) {
    guard !refuses else { throw NumberJournalError("Read-only file system") }
    self.records = records
    takesMore = true
    rewrites += 1
  }
}

/// Which numbers SAs may use: never two with one nonce, whoever brings them, before and after a restart.
@Suite(.serialized) struct NumberTests {
  private static let secret = SecretBytes(Array(repeating: 7, count: 32))

  /// A database as a process has it that finds what the one before has left.
  private static func database(_ journal: MemoryJournal, limits: DatabaseLimits = DatabaseLimits()) -> TestDatabase {
    let test = TestDatabase(limits: limits)
    test.database.keepNumbers(in: journal, secret: secret, records: journal.records)
    return test
  }

  private static func sequence(_ test: TestDatabase, _ spi: UInt32 = 1000) throws -> UInt64 {
    try #require(test.gwSA(spi)).sequenceAtomic.pointee.load(ordering: .relaxed)
  }

  private static func cbc(_ spi: UInt32, owner: Owner = .configuration) -> SAParameters {
    var sa = TestDatabase.sa(spi, owner: owner)
    sa.transform = CryptoTransform(
      encryption: .aesCBC, encryptionKey: SecretBytes(Array(repeating: 1, count: 16)), authentication: .hmacSHA256,
      authenticationKey: SecretBytes(Array(repeating: 2, count: 32)))
    return sa
  }

  // MARK: One SA for a key

  /// Transforms that draw their nonces from one space.
  private static func transforms(of key: [UInt8]) -> [CryptoTransform] {
    [EncryptionAlgorithm.aesGCM16, .aesGCM8, .aesGMAC, .aesCTR].map {
      CryptoTransform(
        encryption: $0, encryptionKey: SecretBytes(key), authentication: $0 == .aesCTR ? .hmacSHA256 : nil,
        authenticationKey: SecretBytes(Array(repeating: 2, count: $0 == .aesCTR ? 32 : 0)))
    }
  }

  @Test func aSecondLiveSAWithTheKeyIsRefused() throws {
    let key = Array(0..<20 as Range<UInt8>)
    for first in Self.transforms(of: key) {
      for second in Self.transforms(of: key) {
        let test = TestDatabase()
        var sa = TestDatabase.sa(1000)
        sa.transform = first
        try test.database.add(sa, origin: 1)
        var other = TestDatabase.sa(1001, peer: IPAddress("203.0.113.77")!, owner: .xfrm(2))
        other.transform = second
        let live = test.liveSessions
        let refused = DatabaseError.keyInUse(by: sa.identifier.description)
        #expect(throws: refused) { try test.database.add(other, origin: 2) }
        // As the completion of a larval SA, as one of a change, as two of a change.
        other.spi = try test.database.allocateSPI(other, in: 5000...5000, origin: 2)
        #expect(throws: refused) { try test.database.update(other, origin: 2) }
        #expect(test.database.record(other.identifier)?.state == .larval)
        other.spi = 1001
        var change = ConfigurationChange(adding: [other], policies: [])
        #expect(throws: refused) { try test.database.apply(change, origin: 0) }
        #expect(throws: refused) { try test.database.check(change) }
        #expect(test.database.culprit == .sa(other.identifier))
        #expect(test.liveSessions == live)
        try test.database.delete(sa.identifier, origin: 1)
        change = ConfigurationChange(adding: [sa, other], policies: [])
        #expect(throws: refused) { try test.database.apply(change, origin: 0) }
        try test.database.add(other, origin: 2)
      }
    }
  }

  @Test func theKeyOfOneThatGoesIsFree() throws {
    let test = TestDatabase()
    let sa = TestDatabase.sa(1000)
    var next = sa
    next.spi = 1001
    try test.database.add(sa, origin: 0)
    try #require(test.gwSA(1000)).sequenceAtomic.pointee.store(500, ordering: .relaxed)
    var change = ConfigurationChange()
    (change.removedSAs, change.addedSAs) = ([sa.identifier], [next])
    try test.database.apply(change, origin: 0)
    #expect(test.gwSA(1000) == nil)
    #expect(try Self.sequence(test, 1001) == 500 + SecurityDatabase.sequenceSkip)
  }

  @Test func otherNonceSpacesAreOthers() throws {
    let test = TestDatabase()
    let key = Array(0..<36 as Range<UInt8>)
    func add(_ spi: UInt32, _ encryption: EncryptionAlgorithm, _ key: [UInt8], out: Bool = true) throws {
      var sa = TestDatabase.sa(spi, out: out)
      sa.transform = CryptoTransform(encryption: encryption, encryptionKey: SecretBytes(key))
      try test.database.add(sa, origin: 0)
    }
    try add(1000, .aesGCM16, key)
    // The other end of the same SA, another cipher, another salt, another key.
    try add(1001, .aesGCM16, key, out: false)
    try add(1002, .chacha20Poly1305, key)
    try add(1003, .aesGCM16, key.dropLast() + [77])
    try add(1004, .aesGCM16, [77] + key.dropFirst())
    // CCM's blocks begin with a 3 (RFC 3610): only behind that its salt is GCM's.
    try add(1005, .aesCCM16, key.dropLast())
    var block = Array(key.dropLast(4)) + [3, 32, 33, 34]
    #expect(throws: DatabaseError.self) { try add(1006, .aesGCM16, block) }
    block[32] = 4
    try add(1006, .aesGCM16, block)
    // Numbers of a MAC's key are no nonces, but GMAC's are.
    for spi in [UInt32(2000), 2001] { try test.database.add(Self.cbc(spi), origin: 0) }
    var ah = TestDatabase.sa(3000, saProtocol: .ah)
    ah.transform = CryptoTransform(
      encryption: .null, authentication: .aesGMAC, authenticationKey: SecretBytes([1] + key.dropFirst()))
    try test.database.add(ah, origin: 0)
    #expect(throws: DatabaseError.self) { try add(3001, .aesGCM16, [1] + key.dropFirst()) }
  }

  // MARK: Across restarts

  @Test func whatMayHaveBeenUsedIsNotUsedAgain() throws {
    let journal = MemoryJournal()
    for owner in [Owner.configuration, .xfrm(3)] {
      let first = Self.database(journal)
      var sa = TestDatabase.sa(owner == .configuration ? 1000 : 1100, owner: owner)
      try first.database.add(sa, origin: 0)
      let reserved = try #require(first.gwSA(sa.spi)).pointee.sequence_limit
      #expect(reserved >= NumberLedger.step && journal.synced > 0)
      // Killed: under another SPI, too, the next process goes on behind.
      let second = Self.database(journal)
      sa.spi += 1
      try second.database.add(sa, origin: 0)
      #expect(try Self.sequence(second, sa.spi) >= reserved)
      // Stopped: no number is left out.
      try #require(second.gwSA(sa.spi)).sequenceAtomic.pointee.store(reserved + 5, ordering: .relaxed)
      second.database.saveNumbers()
      let third = Self.database(journal)
      try third.database.add(sa, origin: 0)
      #expect(try Self.sequence(third, sa.spi) == reserved + 5)
      third.database.saveNumbers()
    }
    // Nothing but a fingerprint is kept.
    #expect(journal.records.allSatisfy { $0.kind == .staticNonces } && journal.records.count == 2)
  }

  @Test func sessionKeysOfACrashAreRefused() throws {
    let journal = MemoryJournal()
    let first = Self.database(journal)
    first.database.isKeyDaemon = { $0 == .xfrm(7) }
    let sa = TestDatabase.sa(1000, owner: .xfrm(7))
    try first.database.add(sa, origin: 0)
    // The daemon waits for no disk, and its SA does not stop for it.
    #expect(journal.synced == 0 && journal.records.map(\.kind) == [.sessionNonces])
    #expect(try #require(first.gwSA(1000)).pointee.sequence_limit == UInt64(UInt32.max))
    // A peer that moves: deleted and added again, in the same process.
    try first.database.delete(sa.identifier, origin: 0)
    try first.database.add(sa, origin: 0)
    #expect(try Self.sequence(first) == SecurityDatabase.sequenceSkip)
    journal.refuses = true
    try first.database.add(TestDatabase.sa(1001, owner: .xfrm(7)), origin: 0)
    #expect(first.database.numberFailure == "No space left on device")
    // What could not be noted is in the journal when it is written anew.
    journal.takesMore = false
    journal.refuses = false
    first.database.reserveNumbers()
    let second = Self.database(journal)
    for spi in [UInt32(1000), 1001] {
      #expect(throws: DatabaseError.self) { try second.database.add(TestDatabase.sa(spi), origin: 0) }
    }
    try second.database.add(TestDatabase.sa(1002), origin: 0)
  }

  @Test func staticSAsOfAnyCipherGoOn() throws {
    let journal = MemoryJournal()
    let first = Self.database(journal)
    try first.database.add(Self.cbc(1000), origin: 0)
    let limit = try #require(first.gwSA(1000)).pointee.sequence_limit
    var inbound = Self.cbc(2000)
    (inbound.source, inbound.destination) = (inbound.destination, inbound.source)
    try first.database.add(inbound, origin: 0)
    let window = try #require(first.gwSA(2000, out: false))
    #expect(ReplayWindow.accept(window, sequence: 77) == .accepted)
    first.database.reserveNumbers()
    let second = Self.database(journal)
    try second.database.add(Self.cbc(1000), origin: 0)
    try second.database.add(inbound, origin: 0)
    #expect(try Self.sequence(second) == limit)
    let again = try #require(second.gwSA(2000, out: false))
    #expect(ReplayWindow.accept(again, sequence: 77) != .accepted)
    #expect(ReplayWindow.accept(again, sequence: 78) == .accepted)
    // With other keys, and where a key daemon sees to it, it begins anew.
    let third = Self.database(journal)
    var other = Self.cbc(1000)
    other.transform.authenticationKey = SecretBytes(Array(repeating: 9, count: 32))
    try third.database.add(other, origin: 0)
    try third.database.add(Self.cbc(1001, owner: .xfrm(1)), origin: 0)
    #expect(try Self.sequence(third) == 0 && Self.sequence(third, 1001) == 0)
  }

  // MARK: The reservation is what is on disk

  @Test func withoutAReservationNothingIsTaken() throws {
    let journal = MemoryJournal()
    let test = Self.database(journal)
    journal.refuses = true
    let live = test.liveSessions
    #expect(throws: DatabaseError.full("its sequence numbers cannot be reserved: No space left on device")) {
      try test.database.add(TestDatabase.sa(1000), origin: 0)
    }
    let change = ConfigurationChange(adding: [Self.cbc(1001), Self.cbc(1002)], policies: [TestDatabase.flow()])
    #expect(throws: DatabaseError.self) { try test.database.apply(change, origin: 0) }
    #expect(test.database.saCount() == 0 && test.database.policyCount() == 0 && test.liveSessions == live)
    #expect(test.database.numberFailure != nil)
    journal.refuses = false
    try test.database.apply(change, origin: 0)
    #expect(test.database.saCount() == 2 && test.database.numberFailure == nil)
    // All of a change are reserved at once, and all that come one by one and are known before.
    #expect(journal.synced == 1)
    let more = (0..<100).map { TestDatabase.sa(2000 + $0) }
    test.database.reserveNumbers(ahead: more + [TestDatabase.sa(1), Self.cbc(1001)])
    for sa in more { try test.database.add(sa, origin: 0) }
    #expect(journal.synced == 2 && journal.records.count == 102)
  }

  @Test func anSAIsHeldWhereItsReservationEndsAndGoesOn() throws {
    let journal = MemoryJournal()
    let test = Self.database(journal)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    let sa = try #require(test.gwSA(1000))
    let limit = sa.pointee.sequence_limit
    #expect(sa.pointee.careful_from < limit && limit == NumberLedger.step)
    journal.refuses = true
    sa.sequenceAtomic.pointee.store(limit - 1, ordering: .relaxed)
    for _ in 0..<3 { test.database.reserveNumbers() }
    #expect(sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed) == limit)
    // A worker comes to it.
    sa.statusAtomic.pointee.bitwiseOr(GW_SA_HELD.rawValue, ordering: .relaxed)
    #expect(test.database.numbersNeeded(serial: sa.pointee.serial))
    test.database.reserveNumbers()
    #expect(test.database.heldSAs == 1 && test.database.numberFailure != nil)
    #expect(Self.largest(journal) == limit)
    journal.refuses = false
    test.database.reserveNumbers()
    #expect(sa.statusAtomic.pointee.load(ordering: .relaxed) == 0 && test.database.heldSAs == 0)
    #expect(sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed) == Self.largest(journal))
    #expect(Self.largest(journal) > limit && test.database.numberFailure == nil)
    // One that is changed keeps its limit, and one whose numbers are set gets more.
    var changed = TestDatabase.sa(1000)
    changed.hard.packets = 10
    try test.database.update(changed, origin: 0)
    #expect(try #require(test.gwSA(1000)).pointee.sequence_limit == Self.largest(journal))
    try test.database.setSequence(changed.identifier, sequence: 1 << 31, replayHighest: 0)
    #expect(try #require(test.gwSA(1000)).pointee.sequence_limit > 1 << 31)
  }

  private static func largest(_ journal: MemoryJournal) -> UInt64 { journal.records.map(\.number).max() ?? 0 }

  /// One that is faster than the usual step has as much as it used in the last round, and more.
  @Test func reservationsFollowThePace() throws {
    let journal = MemoryJournal()
    let test = Self.database(journal)
    var sa = TestDatabase.sa(1000)
    sa.extendedSequenceNumbers = true
    try test.database.add(sa, origin: 0)
    let record = try #require(test.gwSA(1000))
    for round in UInt64(1)...10 {
      let sequence = round * 100_000_000
      record.sequenceAtomic.pointee.store(sequence, ordering: .relaxed)
      test.database.reserveNumbers()
      #expect(record.sequenceLimitAtomic.pointee.load(ordering: .relaxed) > sequence + 200_000_000)
    }
    #expect(journal.records.count < 8)
    // The end of the number space is no reservation's.
    try test.database.add(Self.cbc(1001), origin: 0)
    let short = try #require(test.gwSA(1001))
    short.sequenceAtomic.pointee.store(UInt64(UInt32.max) - 10, ordering: .relaxed)
    test.database.reserveNumbers()
    #expect(short.sequenceLimitAtomic.pointee.load(ordering: .relaxed) == short.sequenceEnd)
  }

  @Test func aKeyWithoutNumbersIsRefused() throws {
    let test = TestDatabase()
    let sa = TestDatabase.sa(1000)
    try test.database.add(sa, origin: 0)
    try #require(test.gwSA(1000)).sequenceAtomic.pointee.store(UInt64(UInt32.max), ordering: .relaxed)
    try test.database.delete(sa.identifier, origin: 0)
    let used = DatabaseError.invalid(
      "all numbers of this counter-mode key were used, or may have been; it needs a new one")
    #expect(throws: used) { try test.database.add(sa, origin: 0) }
    // As 64 bits it has more.
    var esn = sa
    esn.extendedSequenceNumbers = true
    try test.database.add(esn, origin: 0)
  }

  // MARK: Bounds

  private static func name(_ number: Int, _ kind: NumberRecord.Kind) -> NumberName {
    NumberName(fingerprint: Fingerprint(high: UInt64(bitPattern: Int64(number)), low: 5), kind: kind)
  }

  @Test func theOldestSessionKeysAreForgottenAndStaticOnesNever() throws {
    let ledger = NumberLedger(limits: DatabaseLimits(sas: 16))
    let most = 65_536
    ledger.hold(Self.name(0, .staticNonces), by: 1)
    ledger.release(Self.name(0, .staticNonces), by: 1, used: 9)
    for number in 1...most + 1 {
      ledger.hold(Self.name(number, .sessionNonces), by: 2)
      ledger.release(Self.name(number, .sessionNonces), by: 2, used: UInt64(number))
    }
    #expect(ledger[Self.name(0, .staticNonces).fingerprint]?.used == 9)
    #expect(ledger[Self.name(1, .sessionNonces).fingerprint] == nil)
    #expect(ledger[Self.name(2, .sessionNonces).fingerprint]?.used == 2)
    // One that lives is not forgotten, and one key that comes and goes drives out no others.
    ledger.hold(Self.name(2, .sessionNonces), by: 3)
    for _ in 0..<2 * most {
      ledger.hold(Self.name(3, .sessionNonces), by: 4)
      ledger.release(Self.name(3, .sessionNonces), by: 4, used: 100)
    }
    #expect(ledger[Self.name(4, .sessionNonces).fingerprint]?.used == 4)
    for number in most + 2...3 * most { ledger.release(Self.name(number, .sessionNonces), by: 2, used: 1) }
    #expect(ledger[Self.name(2, .sessionNonces).fingerprint]?.holder == 3)
    #expect(ledger[Self.name(3, .sessionNonces).fingerprint] == nil)
  }

  @Test func noStaticKeyIsTakenThatCannotBeRemembered() throws {
    let ledger = NumberLedger(limits: DatabaseLimits(sas: 16))
    for number in 0..<1 << 20 { ledger.hold(Self.name(number, .staticNonces), by: 1) }
    #expect(throws: DatabaseError.self) { try ledger.checkRoom(Self.name(-1, .staticNonces)) }
    try ledger.checkRoom(Self.name(5, .staticNonces))
    try ledger.checkRoom(Self.name(-1, .sessionNonces))
  }

  /// The journal does not grow for ever, and is written anew where it was given up.
  @Test func theJournalIsTidied() throws {
    let journal = MemoryJournal()
    let test = Self.database(journal)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    journal.records += Array(repeating: journal.records[0], count: 100_000)
    let rewrites = journal.rewrites
    test.database.reserveNumbers()
    #expect(journal.rewrites == rewrites + 1 && journal.records.count == 1)
    journal.takesMore = false
    journal.refuses = true
    #expect(throws: DatabaseError.self) { try test.database.add(TestDatabase.sa(1001), origin: 0) }
    journal.refuses = false
    try test.database.add(TestDatabase.sa(1001), origin: 0)
    #expect(journal.rewrites == rewrites + 2)
    // What is gone stands there as it was, and what comes back reserves anew.
    try test.database.delete(TestDatabase.id(1001), origin: 0)
    journal.takesMore = false
    test.database.reserveNumbers()
    #expect(journal.records.map(\.number).min() == SecurityDatabase.sequenceSkip)
    try test.database.add(TestDatabase.sa(1001), origin: 0)
    let limit = try #require(test.gwSA(1001)).pointee.sequence_limit
    #expect(journal.records.last?.number == limit)
  }

  // MARK: Strength

  @Test func whatIsWeakIsRefusedOrToldOf() throws {
    let test = TestDatabase()
    let des = Array(1...8 as ClosedRange<UInt8>)
    let other = des.map { $0 + 16 }
    func transform(
      _ encryption: EncryptionAlgorithm, _ key: [UInt8], _ authentication: AuthenticationAlgorithm? = .hmacSHA256
    ) -> CryptoTransform {
      let length = authentication?.keyLengths[0] ?? 0
      return CryptoTransform(
        encryption: encryption, encryptionKey: SecretBytes(key), authentication: authentication,
        authenticationKey: SecretBytes(Array(repeating: 3, count: length)))
    }
    let weak = [
      transform(.aesCBC, Array(repeating: 1, count: 16), nil), transform(.aesCTR, Array(repeating: 1, count: 20), nil),
      transform(.null, [], .hmacMD5), transform(.tripleDESCBC, des + des + other),
      // But for the parity.
      transform(.tripleDESCBC, other + des + des.map { $0 ^ 1 }),
    ]
    #expect(weak.allSatisfy { $0.weakness != nil })
    let strong = [
      transform(.aesCBC, Array(repeating: 1, count: 16)), transform(.null, []),
      transform(.tripleDESCBC, des + other + des), transform(.aesGMAC, Array(repeating: 1, count: 20), nil),
    ]
    #expect(strong.allSatisfy { $0.weakness == nil })
    var told: [SAIdentifier] = []
    test.database.onWeak = { id, _ in told.append(id) }
    var sa = TestDatabase.sa(1000)
    for transform in weak.prefix(3) {
      sa.transform = transform
      do {
        try test.database.add(sa, origin: 0)
        Issue.record("accepted")
      } catch {
        #expect(error.description.hasSuffix("`allow-weak: true` in gateway.yaml permits it"))
      }
      test.database.permits.weakAlgorithms = true
      try test.database.add(sa, origin: 0)
      test.database.permits.weakAlgorithms = false
      sa.spi += 1
    }
    #expect(told.map(\.spi) == [1000, 1001, 1002])
  }

  @Test func lowSPIsNeedASetting() throws {
    let test = TestDatabase()
    #expect(throws: DatabaseError.self) { try test.database.add(TestDatabase.sa(1), origin: 0) }
    let template = TestDatabase.sa(0, out: false)
    #expect(throws: DatabaseError.self) { try test.database.allocateSPI(template, in: 7...7, origin: 0) }
    test.database.permits.lowSPIs = true
    try test.database.add(TestDatabase.sa(1), origin: 0)
    #expect(try test.database.allocateSPI(template, in: 7...7, origin: 0) == 7)
    #expect(throws: DatabaseError.self) { try test.database.add(TestDatabase.sa(0), origin: 0) }
  }
}
