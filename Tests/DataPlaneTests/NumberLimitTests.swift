import CLayout
import Engines
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Sequence numbers are given out as far as they are reserved, and not one beyond.
  @Suite(.serialized) struct NumberLimitTests {
    /// Reserves what it is told to.
    private final class Journal: NumberJournal {
      var isFull = false
      let recordCount = 0
      let takesMore = true
      func append(_ records: [NumberRecord], isSynced: Bool) throws(NumberJournalError) {
        if isFull { throw NumberJournalError("No space left on device") }
      }
      func replace(_ records: [NumberRecord]) {}
    }

    private static let packets = (0..<8).map {
      Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [1, 2, UInt8($0)])
    }

    /// Of both ways through the sender: framed at once, and everything else.
    @Test(arguments: [
      CryptoTransform.esp(.aesGCM16), .esp(.aesGCM8), .esp(.aesCBC, .hmacSHA256), .esp(.null, .hmacSHA256),
    ]) func theReservationIsTheLimit(transform: CryptoTransform) throws {
      let pair = try Pair()
      let journal = Journal()
      pair.a.security.keepNumbers(in: journal, secret: SecretBytes(Array(repeating: 1, count: 32)), records: [])
      let sa = Pair.sa(.esp, .tunnel, .v4, transform: transform)
      try pair.add([sa], for: Pair.subnets(.v4))
      let limit: UInt64 = 1 << 23
      try pair.a.security.setSequence(sa.identifier, sequence: 100, replayHighest: 0)
      #expect(pair.a.receive(Self.packets).sent.count == 8)
      journal.isFull = true
      try pair.a.security.setSequence(sa.identifier, sequence: limit - 6, replayHighest: 0)
      let last = pair.a.receive(Self.packets)
      // The limit's own number is not given out, as at the end of the number space.
      #expect(last.sent.count == 5 && last.drops == [.sequenceUnreserved: 3])
      #expect(pair.b.receive(last.sent).sent.count == 5)
      let events = Self.drain(pair.a)
      #expect(events.map(\.kind) == [.numbersNeeded])
      #expect(pair.a.security.numbersNeeded(serial: events[0].number))
      // No packet takes a number while it waits, however many come.
      for _ in 0..<5 { #expect(pair.a.receive(Self.packets).drops == [.sequenceUnreserved: 8]) }
      #expect(try #require(pair.a.security.record(sa.identifier)).sequence <= limit + 8)
      #expect(Self.drain(pair.a).isEmpty)
      journal.isFull = false
      pair.a.security.reserveNumbers()
      #expect(pair.a.security.heldSAs == 0)
      let rest = pair.a.receive(Self.packets)
      #expect(rest.sent.count == 8 && rest.drops.isEmpty)
      #expect(pair.b.receive(rest.sent).sent.count == 8)
    }

    private static func drain(_ gateway: TestGateway) -> [Event] {
      var events: [Event] = []
      while let event = gateway.worker.pointee.events.pop() { events.append(event) }
      return events
    }

    /// Nobody heard the word: the next packet says it again.
    @Test func aLostWordIsSaidAgain() throws {
      let pair = try Pair()
      let journal = Journal()
      pair.a.security.keepNumbers(in: journal, secret: SecretBytes(Array(repeating: 1, count: 32)), records: [])
      let sa = Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))
      try pair.add([sa], for: Pair.subnets(.v4))
      journal.isFull = true
      try pair.a.security.setSequence(sa.identifier, sequence: 1 << 23, replayHighest: 0)
      while pair.a.worker.pointee.events.push(Event(.pathMTU, number: 0)) {}
      #expect(pair.a.receive(Self.packets).sent.isEmpty)
      #expect(Self.drain(pair.a).allSatisfy { $0.kind == .pathMTU })
      #expect(pair.a.receive(Self.packets).sent.isEmpty)
      #expect(Self.drain(pair.a).map(\.kind) == [.numbersNeeded])
    }

    /// 64 bits of numbers end, too.
    @Test func extendedNumbersRunOut() throws {
      let pair = try Pair()
      var sa = Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16), esn: true)
      sa.sequence = 1 << 62
      try pair.add([sa], for: Pair.subnets(.v4))
      #expect(pair.a.receive(Self.packets).sent.count == 8)
      let record = try #require(
        pair.a.security.sad.lookup(spi: sa.spi, destination: sa.destination, saProtocol: sa.saProtocol.rawValue))
      record.sequenceAtomic.pointee.store(record.sequenceEnd - 4, ordering: .relaxed)
      let last = pair.a.receive(Self.packets)
      #expect(last.sent.count == 3 && last.drops == [.sequenceExhausted: 5])
      #expect(pair.a.receive(Self.packets).drops == [.saStopped: 8])
    }
  }
}
