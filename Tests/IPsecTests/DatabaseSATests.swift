import CLayout
import Engines
import SeededRandom
import Synchronization
import Testing
import Wire

@testable import IPsec

@Suite(.serialized) struct DatabaseSATests {
  @Test func laysOutWhatWorkersSee() throws {
    let test = TestDatabase()
    var sa = TestDatabase.sa(0x1234_5678, out: false)
    sa.extendedSequenceNumbers = true
    sa.replayWindow = 1000
    sa.encapsulation = UDPEncapsulation(sourcePort: 40_000, destinationPort: 4500)
    sa.hard.bytes = 10_000
    try test.database.add(sa, origin: 3)
    let layout = try #require(test.gwSA(0x1234_5678, out: false)).pointee
    #expect(layout.spi == UInt32(0x1234_5678).bigEndian)
    let flags = gw_sa_flag(layout.flags)
    #expect(
      flags.rawValue
        == GW_SA_TUNNEL.rawValue | GW_SA_ESN.rawValue | GW_SA_UDP_ENCAP.rawValue | GW_SA_INBOUND.rawValue
        | GW_SA_LIMITED.rawValue | GW_SA_DF_COPY.rawValue)
    #expect(layout.replay_window == 1024 && layout.replay_mask == 63)
    #expect(layout.crypto == UInt8(GW_CRYPTO_AEAD.rawValue) && layout.iv_length == 8 && layout.icv_length == 16)
    #expect(layout.salt == 0x1111_1111 && layout.alignment == 4)
    #expect(layout.outer_length == 28 && layout.hard_bytes == 10_000)
    // IP 20, UDP 8, ESP 8, IV 8, padding 3, trailer 2, ICV 16.
    #expect(layout.overhead == 65)
    #expect(test.takeRawEvents().first?.origin == 3)
  }

  @Test(arguments: [
    (EncryptionAlgorithm.aesCBC, 16, GW_CRYPTO_CBC, 16, UInt32(0)), (.aesCTR, 20, GW_CRYPTO_CTR, 4, 0x0403_0201),
    (.aesCCM16, 19, GW_CRYPTO_CCM, 4, 0x0003_0201), (.aesGMAC, 20, GW_CRYPTO_GMAC, 4, 0x0403_0201),
    (.chacha20Poly1305, 36, GW_CRYPTO_AEAD, 4, 0x0403_0201), (.aesGCM16, 36, GW_CRYPTO_AEAD, 4, 0x0403_0201),
    (.aesGCM8, 20, GW_CRYPTO_AEAD, 4, 0x0403_0201), (.null, 0, GW_CRYPTO_CBC, 4, 0),
  ]) func layoutOfEachCipher(
    encryption: EncryptionAlgorithm, keyLength: Int, crypto: gw_sa_crypto, alignment: UInt8, salt: UInt32
  ) throws {
    let test = TestDatabase()
    var key = Array(repeating: UInt8(9), count: keyLength)
    for i in 0..<encryption.saltLength { key[keyLength - encryption.saltLength + i] = UInt8(i + 1) }
    var sa = TestDatabase.sa(5000)
    sa.transform = CryptoTransform(encryption: encryption, encryptionKey: SecretBytes(key))
    if !encryption.isAEAD { sa.transform.authentication = .hmacSHA256 }
    try test.database.add(sa, origin: 0)
    let layout = try #require(test.gwSA(5000)).pointee
    #expect(layout.crypto == UInt8(crypto.rawValue) && layout.alignment == alignment)
    #expect(layout.salt == salt.littleEndian && layout.iv_length == UInt8(encryption.ivLength))
    let isPlain = encryption == .aesGCM16 || encryption == .chacha20Poly1305
    #expect((layout.flags & GW_SA_FAST_PATH.rawValue != 0) == isPlain)
  }

  @Test func refusalsLeaveNothingBehind() throws {
    let test = TestDatabase(limits: DatabaseLimits(sas: 2, policies: 1))
    let live = test.liveSessions
    func refuses(_ change: (inout SAParameters) -> Void, _ matches: (DatabaseError) -> Bool) {
      var sa = TestDatabase.sa(1000)
      change(&sa)
      do {
        try test.database.add(sa, origin: 0)
        Issue.record("accepted")
      } catch {
        #expect(matches(error), "\(error)")
      }
    }
    func invalid(_ error: DatabaseError) -> Bool { if case .invalid = error { true } else { false } }
    func unsupported(_ error: DatabaseError) -> Bool { if case .unsupported = error { true } else { false } }
    func full(_ error: DatabaseError) -> Bool { if case .full = error { true } else { false } }
    refuses({ $0.spi = 255 }, invalid)
    refuses({ $0.source = IPAddress("2001:db8::1")! }, invalid)
    refuses({ $0.destination = .unspecified(.v4) }, invalid)
    refuses({ $0.transform = CryptoTransform(encryption: .null) }, invalid)
    refuses({ $0.transform.encryptionKey = SecretBytes([1, 2, 3]) }, invalid)
    refuses(
      { $0.transform = CryptoTransform(encryption: .tripleDESCBC, authentication: .hmacSHA1) }, unsupported)
    refuses({ $0.saProtocol = .ah }, invalid)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    refuses({ _ in }) { $0 == .exists("SA esp to 203.0.113.9 spi 0x000003e8") }
    try test.database.add(TestDatabase.sa(1001), origin: 0)
    refuses({ $0.spi = 1002 }, full)
    #expect(test.database.saCount() == 2)
    #expect(test.liveSessions == live + 2)
    #expect(throws: DatabaseError.self) { try test.database.delete(TestDatabase.id(77), origin: 0) }
    #expect(throws: DatabaseError.self) { try test.database.update(TestDatabase.sa(77), origin: 0) }
  }

  @Test func deletedSAIsStoppedAtOnceAndWipedAfterGrace() throws {
    let test = TestDatabase()
    let live = test.liveSessions
    try test.database.add(TestDatabase.sa(1000, out: false), origin: 0)
    let sa = try #require(test.gwSA(1000, out: false))
    let slot = sa.pointee.slot
    try test.database.delete(TestDatabase.id(1000, out: false), origin: 0)
    #expect(test.gwSA(1000, out: false) == nil)
    #expect(sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_STOPPED.rawValue != 0)
    #expect(sa.pointee.salt == 0x1111_1111)
    #expect(test.liveSessions == live + 1)
    #expect(test.counters.resets.isEmpty)
    test.reclaimer.pass()
    #expect(test.liveSessions == live)
    #expect(test.counters.resets == [slot])
    // The record's memory is the slab's and all zero again.
    #expect(sa.pointee.salt == 0 && sa.pointee.session == nil && sa.pointee.spi == 0)
    #expect(test.takeEvents() == ["added 1000", "deleted 1000"])
    // The slot is used again, the serial is not.
    try test.database.add(TestDatabase.sa(1001, out: false), origin: 0)
    #expect(test.gwSA(1001, out: false)?.pointee.slot == slot)
    #expect(test.gwSA(1001, out: false)?.pointee.serial == 2)
  }

  @Test func larvalSAs() throws {
    let test = TestDatabase()
    let template = TestDatabase.sa(0, out: false, owner: .xfrm(1))
    let spi = try test.database.allocateSPI(template, in: 0...0xffff_ffff, origin: 1)
    #expect(spi > 255)
    #expect(test.record(spi, out: false)?.state == .larval)
    #expect(test.gwSA(spi, out: false) == nil)
    // One that is completed.
    try test.database.update(TestDatabase.sa(spi, out: false, owner: .xfrm(1)), origin: 1)
    #expect(test.record(spi, out: false)?.state == .mature)
    // One that is not.
    let other = try test.database.allocateSPI(template, in: 4096...4096, origin: 1)
    #expect(other == 4096)
    #expect(throws: DatabaseError.full("SPI 4096 is in use")) {
      try test.database.allocateSPI(template, in: 4096...4096, origin: 1)
    }
    #expect(throws: DatabaseError.self) { try test.database.allocateSPI(template, in: 0...255, origin: 1) }
    test.database.tick(now: 1029)
    #expect(test.record(4096, out: false) != nil)
    test.database.tick(now: 1030)
    #expect(test.record(4096, out: false) == nil)
    #expect(test.record(spi, out: false)?.state == .mature)
    #expect(test.takeEvents() == ["updated \(spi)", "hard 4096 larval"])
    // A limit of their own.
    for _ in 0..<10 { _ = try test.database.allocateSPI(template, in: 256...0xffff, origin: 1) }
    #expect(throws: DatabaseError.self) { try test.database.allocateSPI(template, in: 256...0xffff, origin: 1) }
    // Deleting one is no event of an SA that stood.
    #expect(test.database.saCount() == 11)
    test.database.flushSAs(nil, owner: nil, origin: 0)
    #expect(test.database.saCount() == 0)
  }

  @Test func updateKeepsKeysNumbersAndWindow() throws {
    let test = TestDatabase()
    _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    try test.database.add(TestDatabase.sa(2000, out: false), origin: 0)
    test.reclaimer.pass()
    let (out, inbound) = (try #require(test.gwSA(1000)), try #require(test.gwSA(2000, out: false)))
    out.sequenceAtomic.pointee.store(500, ordering: .relaxed)
    #expect(ReplayWindow.accept(inbound, sequence: 77) == .accepted)
    let generation = test.database.spd.generation

    var wanted = TestDatabase.sa(1000)
    wanted.transform = CryptoTransform(encryption: .null)
    wanted.transform.authentication = .hmacSHA1
    wanted.hard.packets = 10
    try test.database.update(wanted, origin: 0)
    let newOut = try #require(test.gwSA(1000))
    #expect(newOut != out && newOut.pointee.session == out.pointee.session)
    #expect(newOut.pointee.hard_packets == 10 && newOut.pointee.flags & GW_SA_LIMITED.rawValue != 0)
    // Workers that still hold the old record cannot meet the numbers of the new one.
    #expect(newOut.pointee.sequence == 500 + SecurityDatabase.sequenceSkip)
    #expect(out.pointee.status & GW_SA_STOPPED.rawValue != 0 && newOut.pointee.status == 0)
    #expect(newOut.pointee.serial == out.pointee.serial)
    #expect(test.outboundSPI() == 1000)
    #expect(test.database.spd.generation != generation)
    var key = TestDatabase.key()
    #expect(test.database.tables.spd.lookup(&key)?.loadSA() == newOut)

    var moved = TestDatabase.sa(2000, out: false)
    moved.encapsulation = UDPEncapsulation(sourcePort: 1, destinationPort: 4500)
    try test.database.update(moved, origin: 0)
    let newIn = try #require(test.gwSA(2000, out: false))
    #expect(newIn != inbound)
    #expect(ReplayWindow.accept(newIn, sequence: 77) == .duplicate)
    #expect(ReplayWindow.accept(newIn, sequence: 76) == .accepted)
    // A worker in flight with the old record cannot accept it again.
    #expect(ReplayWindow.accept(inbound, sequence: 76) == .duplicate)
    test.reclaimer.pass()
    #expect(ReplayWindow.accept(newIn, sequence: 75) == .accepted)
    // Only times: nothing for the workers to see.
    moved.soft.addTime = 100
    try test.database.update(moved, origin: 0)
    #expect(test.gwSA(2000, out: false) == newIn)
    test.database.flushSAs(nil, owner: nil, origin: 0)
    test.reclaimer.pass()
  }

  @Test func setSequenceGoesForwardOnly() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    try test.database.add(TestDatabase.sa(2000, out: false), origin: 0)
    try test.database.setSequence(TestDatabase.id(1000), sequence: 900, replayHighest: 0)
    try test.database.setSequence(TestDatabase.id(1000), sequence: 100, replayHighest: 0)
    #expect(test.record(1000)?.sequence == 900)
    let sa = try #require(test.gwSA(2000, out: false))
    #expect(ReplayWindow.accept(sa, sequence: 10) == .accepted)
    try test.database.setSequence(TestDatabase.id(2000, out: false), sequence: 0, replayHighest: 100)
    for sequence in UInt64(1)...100 { #expect(ReplayWindow.accept(sa, sequence: sequence) != .accepted) }
    #expect(ReplayWindow.accept(sa, sequence: 102) == .accepted)
    #expect(test.record(2000, out: false)?.replayBitmap == ~2)
    #expect(test.record(2000, out: false)?.sequence == 102)
  }

  @Test func recordsShowCountersAndTimes() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(3000), origin: 0)
    try test.database.add(TestDatabase.sa(2000, out: false), origin: 0)
    let slot = try #require(test.gwSA(2000, out: false)).pointee.slot
    test.counters.values[slot] = gw_counters(
      packets: 5, bytes: 500, last_used: 1002, integrity_failures: 1, replayed: 2, drops: 3)
    test.database.tick(now: 1002)
    test.database.tick(now: 1010)
    let record = try #require(test.record(2000, out: false))
    #expect(record.usage.packets == 5 && record.usage.bytes == 500)
    #expect(record.usage.added == 1_001_000 && record.usage.lastUsed == 1_001_002)
    #expect((1_001_001...1_001_002).contains(record.usage.firstUsed))
    #expect(record.counters.inputPackets == 5 && record.counters.inputDrops == 3)
    #expect(record.counters.replayed == 2 && record.counters.integrityFailures == 1)
    #expect(record.counters.outputPackets == 0)
    #expect(test.database.records().map(\.parameters.spi) == [2000, 3000])
  }

  @Test func flushesByProtocolAndOwner() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    try test.database.add(TestDatabase.sa(1001, saProtocol: .ah), origin: 0)
    try test.database.add(TestDatabase.sa(1002, owner: .xfrm(7)), origin: 0)
    _ = test.takeEvents()
    test.database.flushSAs(nil, owner: .xfrm(7), origin: 0)
    #expect(test.takeEvents() == ["deleted 1002"])
    test.database.flushSAs(.ah, owner: nil, origin: 0)
    #expect(test.takeEvents() == ["flushed"])
    #expect(test.database.records().map(\.parameters.spi) == [1000])
  }

  @Test func ipipGoesByItsSource() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(1000, out: false, saProtocol: .ipip), origin: 0)
    let source = TestDatabase.there.halves
    let number = SADReader.ipipSPI(sourceHigh: source.0, sourceLow: source.1)
    let here = UInt32(TestDatabase.here.halves.1)
    #expect(test.database.tables.inbound.lookup(spi: number, destination4: here, saProtocol: 4) != nil)
    #expect(test.record(1000, out: false, saProtocol: .ipip) != nil)
    #expect(throws: DatabaseError.self) {
      try test.database.add(TestDatabase.sa(1001, out: false, saProtocol: .ipip), origin: 0)
    }
    try test.database.delete(TestDatabase.id(1000, out: false, saProtocol: .ipip), origin: 0)
    #expect(test.database.tables.inbound.lookup(spi: number, destination4: here, saProtocol: 4) == nil)
  }

  @Test func directionFollowsTheGatewaysAddresses() throws {
    let test = TestDatabase()
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    #expect(try #require(test.gwSA(1000)).pointee.flags & GW_SA_INBOUND.rawValue == 0)
    try #require(test.gwSA(1000)).sequenceAtomic.pointee.store(40, ordering: .relaxed)
    test.database.isOwnAddress = { $0 == TestDatabase.there }
    test.database.ownAddressesChanged()
    #expect(try #require(test.gwSA(1000)).pointee.flags & GW_SA_INBOUND.rawValue != 0)
    test.database.isOwnAddress = { $0 == TestDatabase.here }
    test.database.ownAddressesChanged()
    #expect(try #require(test.gwSA(1000)).pointee.sequence > 40)
  }

  /// What packets are looked up among has no SA that seals, whatever becomes of the SA.
  @Test func packetsFindInboundSAsOnly() throws {
    let test = TestDatabase()
    let there = UInt32(TestDatabase.there.halves.1)
    func found() -> [Bool] {
      let tables = test.database.tables
      let spi = UInt32(1000).bigEndian
      return [
        tables.inbound.lookup(spi: spi, destination4: there, saProtocol: 50) != nil,
        tables.outbound.lookup(spi: spi, destination4: there, saProtocol: 50) != nil,
      ]
    }
    var sa = TestDatabase.sa(1000)
    try test.database.add(sa, origin: 0)
    #expect(found() == [false, true])
    // Changed so that workers get another record; its name is taken for both directions.
    sa.hard.packets = 50
    try test.database.update(sa, origin: 0)
    #expect(found() == [false, true])
    sa.direction = .in
    #expect(throws: DatabaseError.self) { try test.database.add(sa, origin: 0) }
    #expect(throws: DatabaseError.self) { try test.database.allocateSPI(sa, in: 1000...1000, origin: 0) }
    // The far end becomes the gateway's own, and somebody else's again.
    test.database.isOwnAddress = { $0 == TestDatabase.there }
    test.database.ownAddressesChanged()
    #expect(found() == [true, false])
    test.database.isOwnAddress = { $0 == TestDatabase.here }
    test.database.ownAddressesChanged()
    #expect(found() == [false, true])
    // One change takes the one out and puts the other in.
    var change = ConfigurationChange()
    change.removedSAs = [sa.identifier]
    change.addedSAs = [sa]
    try test.database.apply(change, origin: 0)
    #expect(found() == [true, false])
    try test.database.delete(sa.identifier, origin: 0)
    #expect(found() == [false, false])
    // A larval SA is found by nobody until it has a direction.
    sa.direction = .out
    sa.spi = try test.database.allocateSPI(sa, in: 1000...1000, origin: 0)
    #expect(found() == [false, false])
    try test.database.update(sa, origin: 0)
    #expect(found() == [false, true])
  }

  @Test func aKeyThatComesBackGoesOnCounting() throws {
    let test = TestDatabase()
    var sa = TestDatabase.sa(1000)
    try test.database.add(sa, origin: 1)
    try #require(test.gwSA(1000)).sequenceAtomic.pointee.store(500, ordering: .relaxed)
    // Deleted and added under another SPI by another client, as part of a change, after a flush.
    try test.database.delete(sa.identifier, origin: 1)
    sa.spi = 1001
    try test.database.add(sa, origin: 2)
    let second = try #require(test.gwSA(1001)).pointee.sequence
    #expect(second >= 500 + SecurityDatabase.sequenceSkip)
    var change = ConfigurationChange()
    change.removedSAs = [sa.identifier]
    change.addedSAs = [sa]
    try test.database.apply(change, origin: 0)
    let third = try #require(test.gwSA(1001)).pointee.sequence
    #expect(third > second)
    test.database.flushSAs(nil, owner: nil, origin: 0)
    // A larval SA that is completed with it.
    var larval = sa
    larval.spi = try test.database.allocateSPI(sa, in: 3000...3000, origin: 2)
    try test.database.update(larval, origin: 2)
    #expect(try #require(test.gwSA(3000)).pointee.sequence > third)
    // Another key begins at the beginning, as does a cipher that has no such nonces.
    var other = TestDatabase.sa(1002, owner: .xfrm(1))
    other.transform.encryptionKey = SecretBytes(Array(repeating: 0x12, count: 20))
    try test.database.add(other, origin: 0)
    #expect(try #require(test.gwSA(1002)).pointee.sequence == 0)
    for _ in 0..<2 {
      other.spi = 1003
      other.transform = CryptoTransform(
        encryption: .aesCBC, encryptionKey: SecretBytes(Array(repeating: 1, count: 16)), authentication: .hmacSHA256,
        authenticationKey: SecretBytes(Array(repeating: 2, count: 32)))
      try test.database.add(other, origin: 0)
      #expect(try #require(test.gwSA(1003)).pointee.sequence == 0)
      try test.database.delete(other.identifier, origin: 0)
    }
  }

  @Test func refusedChangesNameTheirPart() throws {
    let test = TestDatabase(limits: DatabaseLimits(sas: 3, policies: 10))
    var bad = TestDatabase.sa(1001)
    bad.transform.encryptionKey = SecretBytes([1])
    func refuse(_ sas: [SAParameters], _ policies: [PolicyParameters] = []) -> ConfigurationChange.Part? {
      #expect(throws: DatabaseError.self) {
        try test.database.apply(ConfigurationChange(adding: sas, policies: policies), origin: 0)
      }
      return test.database.culprit
    }
    #expect(refuse([TestDatabase.sa(1000), bad]) == .sa(bad.identifier))
    var policy = TestDatabase.flow()
    policy.selector.destination = try #require(IPPrefix("2001:db8::/32"))
    #expect(
      refuse([TestDatabase.sa(1000)], [TestDatabase.flow(), policy])
        == .policy(.init(direction: .out, selector: policy.selector)))
    // Too many: no one of them.
    #expect(refuse((0..<4).map { TestDatabase.sa(1000 + $0) }) == nil)
    try test.database.apply(ConfigurationChange(adding: [TestDatabase.sa(1000)], policies: []), origin: 0)
    #expect(test.database.culprit == nil)
  }

  @Test func keyedSAsAreCountedByKindAndDirection() throws {
    let test = TestDatabase()
    for spi in UInt32(1000)..<1003 { try test.database.add(TestDatabase.sa(spi), origin: 0) }
    try test.database.add(TestDatabase.sa(2000, out: false), origin: 0)
    try test.database.add(TestDatabase.sa(3000, saProtocol: .ah), origin: 0)
    try test.database.add(TestDatabase.sa(3001, saProtocol: .ipcomp), origin: 0)
    let counts = test.database.keyedSAs()
    let gcm = try #require(counts[TransformKind(TestDatabase.sa(1000).transform)])
    #expect(gcm.seal == 3 && gcm.open == 1 && counts.count == 2)
    try test.database.delete(TestDatabase.id(1000), origin: 0)
    #expect(test.database.keyedSAs()[TransformKind(TestDatabase.sa(1000).transform)]?.seal == 2)
  }

  @Test func sequenceNumbersNearTheEndAreRefused() throws {
    let test = TestDatabase()
    var sa = TestDatabase.sa(1000)
    sa.sequence = .max
    #expect(throws: DatabaseError.self) { try test.database.add(sa, origin: 0) }
    sa.sequence = 1 << 63
    try test.database.add(sa, origin: 0)
    #expect(throws: DatabaseError.self) {
      try test.database.setSequence(sa.identifier, sequence: .max, replayHighest: 0)
    }
    sa.hard.bytes = 1
    try test.database.update(sa, origin: 0)
    #expect(try #require(test.record(1000)).sequence == 1 << 63 + SecurityDatabase.sequenceSkip)
  }

  /// Adds, deletes and updates by chance; at the end nothing is left over.
  @Test func randomLifeLeavesNothing() throws {
    var random = SeededGenerator()
    let test = TestDatabase(limits: DatabaseLimits(sas: 300, policies: 50, larvalSAs: 20))
    var standing: Set<SAIdentifier> = []
    for index in 0..<8 {
      let selector = Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("10.\(index).0.0/16")!)
      let template = TestDatabase.template(requestID: UInt32(index))
      _ = try test.database.add(TestDatabase.policy(selector, templates: [template]), replacing: false, origin: 0)
    }
    for step in 0..<20_000 {
      let spi = UInt32.random(in: 300...700, using: &random)
      let sa = TestDatabase.sa(
        spi, out: Bool.random(using: &random), requestID: .random(in: 0..<8, using: &random))
      switch Int.random(in: 0..<8, using: &random) {
      case 0..<3:
        let isNew = !standing.contains(sa.identifier)
        if (try? test.database.add(sa, origin: 0)) != nil {
          if !isNew { Issue.record("seed \(random.seed) step \(step)") }
          standing.insert(sa.identifier)
        } else if isNew, standing.count < 250 {
          Issue.record("seed \(random.seed) step \(step): refused")
        }
      case 3..<5:
        let was = standing.remove(sa.identifier) != nil
        let did = (try? test.database.delete(sa.identifier, origin: 0)) != nil
        if was != did { Issue.record("seed \(random.seed) step \(step): delete") }
      case 5:
        var changed = sa
        changed.hard.bytes = .random(in: 0...5, using: &random)
        let did = (try? test.database.update(changed, origin: 0)) != nil
        if did != standing.contains(sa.identifier) { Issue.record("seed \(random.seed) step \(step): update") }
      case 6: test.reclaimer.pass()
      default:
        // What each policy uses stands, is outbound and has the right request ID.
        let index = UInt32.random(in: 0..<8, using: &random)
        var key = TestDatabase.key("10.9.9.9", "10.\(index).1.1")
        let policy = try #require(test.database.tables.spd.lookup(&key))
        let wanted = test.database.entries.values.filter {
          !$0.isInbound && (index == 0 || $0.parameters.requestID == index)
        }.max { $0.order < $1.order }
        if policy.loadSA() != wanted?.sa { Issue.record("seed \(random.seed) step \(step): bound") }
      }
      if test.database.saCount() != standing.count { Issue.record("seed \(random.seed) step \(step): count") }
    }
    test.database.flushSAs(nil, owner: nil, origin: 0)
    test.database.flushPolicies(owner: nil, origin: 0)
    while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
    #expect(test.liveSessions == 0)
    #expect(test.database.factory.slab.inUse == 0 && test.database.policyFactory.slab.inUse == 0)
  }
}
