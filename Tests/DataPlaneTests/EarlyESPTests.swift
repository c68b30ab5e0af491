import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// ESP that comes before its SA, whose SPI a key daemon has taken.
  @Suite(.serialized) struct EarlyESPTests {
    private static let spi: UInt32 = 0x1000

    /// What `a` has sealed for `b`, which has no SA; and the packets.
    private static func early(_ family: AddressFamily) throws -> (pair: Pair, sealed: [[UInt8]], clear: [[UInt8]]) {
      let pair = try Pair()
      let sa = Pair.sa(.esp, .tunnel, family, spi: spi, transform: .esp(.aesGCM16))
      try pair.add([sa], for: Pair.subnets(family))
      let clear = (0..<3).map { Packets.udp(from: Pair.hosts(family).0, to: Pair.hosts(family).1, payload: [7, $0]) }
      let sealed = pair.a.receive(clear).sent
      #expect(sealed.count == 3)
      pair.b.security.flushSAs(nil, owner: nil, origin: 0)
      return (pair, sealed, clear)
    }

    private static func expect(_ isExpected: Bool, _ gateway: TestGateway) {
      gateway.worker.pointee.shared.pointee.expected.set(ExpectedSPIs.bit(spi.bigEndian), isExpected)
    }

    @Test func itWaitsForItsSA() throws {
      let used = TestGateway.buffersInUse
      for family in [AddressFamily.v4, .v6] {
        let (pair, sealed, clear) = try Self.early(family)
        #expect(pair.b.receive(sealed).drops == [.noSA: 3])
        Self.expect(true, pair.b)
        let outcome = pair.b.receive(sealed)
        #expect(outcome.drops == [:] && outcome.sent.isEmpty && outcome.host.isEmpty)
        var sa = Pair.sa(.esp, .tunnel, family, spi: Self.spi, transform: .esp(.aesGCM16))
        sa.direction = .in
        try pair.b.security.add(sa, origin: 0)
        Self.expect(false, pair.b)
        let opened = pair.b.releaseKeyed()
        #expect(opened.drops == [:] && opened.sent == clear.map { Packets.forwarded($0, hops: 2) })
      }
      #expect(TestGateway.buffersInUse == used)
    }

    /// None came: what waited is dropped when it is looked up again, and counted.
    @Test func withoutAnSAItIsDropped() throws {
      let used = TestGateway.buffersInUse
      let (pair, sealed, _) = try Self.early(.v4)
      Self.expect(true, pair.b)
      #expect(pair.b.receive(sealed).drops == [:])
      Self.expect(false, pair.b)
      #expect(pair.b.releaseKeyed().drops == [.noSA: 3])
      #expect(TestGateway.buffersInUse == used)
    }

    /// Only what is for the gateway itself, by an SPI that may be expected, waits.
    @Test func othersDoNotWait() throws {
      let (pair, sealed, _) = try Self.early(.v4)
      Self.expect(true, pair.b)
      let other = sealed.map { packet in
        var packet = packet
        packet[22] ^= 0x55
        return packet
      }
      #expect(pair.b.receive(other).drops == [.noSA: 3])
      let host = try #require(IPAddress(Pair.host4.1)).bytes
      let elsewhere = sealed.map { Packets.summed(Array($0[..<16] + host + $0[20...])) }
      let outcome = pair.b.receive(elsewhere)
      #expect(outcome.drops == [:] && outcome.sent.count == 3)
    }

    @Test func theListKnowsWhatWasSettledAMomentAgo() {
      var list = ExpectedSPIList()
      #expect(list.state(5, now: 100) == .unknown && list.settle(5, now: 100) == nil)
      #expect(list.expect(5) == ExpectedSPIs.bit(5) && list.expect(5) == nil)
      #expect(list.settle(5, now: 100) == nil && list.state(5, now: 100) == .expected)
      #expect(list.settle(5, now: 100) == ExpectedSPIs.bit(5))
      #expect(list.state(5, now: 100.9) == .settled && list.state(6, now: 100.9) == .unknown)
      #expect(list.state(5, now: 103) == .unknown)
    }

    @Test func bitsAreSharedUntilTheLastGoes() throws {
      var list = ExpectedSPIList()
      let first: UInt32 = 77
      let second = try #require((78..<100_000).first { ExpectedSPIs.bit($0) == ExpectedSPIs.bit(first) })
      #expect(list.expect(first) != nil && list.expect(second) == nil)
      #expect(list.settle(first, now: 0) == nil && list.settle(second, now: 0) == ExpectedSPIs.bit(first))
      let bits = ExpectedSPIs()
      bits.set(ExpectedSPIs.bit(first), true)
      let held = [first, second, first &+ 1].map { bits.mayHold($0) }
      bits.set(ExpectedSPIs.bit(first), false)
      let isLeft = bits.mayHold(first)
      #expect(held == [true, true, false] && !isLeft)
      #expect((0..<100_000).allSatisfy { (0..<ExpectedSPIs.bitCount).contains(ExpectedSPIs.bit($0 &* 0x10001)) })
    }
  }
}
