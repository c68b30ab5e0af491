import CDPDK
import DPDK
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// SAs without a key schedule: their packets wait, none is lost, and the schedule is made once it is asked for.
  @Suite(.serialized) struct UnkeyedTests {
    private static let packets = Dictionary(
      uniqueKeysWithValues: [AddressFamily.v4, .v6].map { family in
        (
          family,
          (0..<3).map { Packets.udp(from: Pair.hosts(family).0, to: Pair.hosts(family).1, payload: [1, 2, $0]) }
        )
      })

    /// Two gateways with room for one schedule and two tunnels.
    private static func pair() throws -> Pair {
      let pair = try Pair(schedules: 1)
      for (family, spi) in [(AddressFamily.v4, UInt32(0x1000)), (.v6, 0x2000)] {
        let sa = Pair.sa(.esp, .tunnel, family, spi: spi, transform: .esp(.aesGCM16))
        try pair.add([sa], for: Pair.subnets(family))
      }
      return pair
    }

    /// What the control thread does; returns how many SAs asked.
    private static func serve(_ gateway: TestGateway) -> Int {
      var asked = 0
      while let event = gateway.worker.pointee.events.pop() {
        #expect(event.kind == .unkeyed)
        gateway.security.keysNeeded(serial: event.number)
        asked += 1
      }
      return asked
    }

    @Test func packetsWaitForKeysOnBothSides() throws {
      let used = TestGateway.buffersInUse
      let pair = try Self.pair()
      for family in [AddressFamily.v6, .v4, .v6] {
        let clear = try #require(Self.packets[family])
        let first = pair.a.receive(clear)
        #expect(first.sent.isEmpty && first.drops.isEmpty)
        #expect(Self.serve(pair.a) == 1)
        let sealed = pair.a.releaseKeyed()
        #expect(sealed.sent.count == 3 && sealed.drops.isEmpty)
        // There is one now.
        let more = pair.a.receive(clear)
        #expect(more.sent.count == 3 && more.drops.isEmpty)
        let second = pair.b.receive(sealed.sent)
        #expect(second.sent.isEmpty && second.drops.isEmpty)
        #expect(Self.serve(pair.b) == 1)
        let opened = pair.b.releaseKeyed()
        #expect(opened.sent.map(\.count) == clear.map(\.count) && opened.drops.isEmpty)
        // Of the same hops as those that did not wait.
        #expect(opened.sent == pair.b.receive(more.sent).sent)
        #expect(pair.a.security.scheduleCount == 1 && pair.b.security.scheduleCount == 1)
      }
      #expect(TestGateway.buffersInUse == used)
    }

    @Test func aQuestionThatNobodyHeardIsAskedAgain() throws {
      let pair = try Self.pair()
      let clear = try #require(Self.packets[.v6])
      while pair.a.worker.pointee.events.push(Event(.pathMTU, number: 0)) {}
      #expect(pair.a.receive(Array(clear.prefix(1))).sent.isEmpty)
      while pair.a.worker.pointee.events.pop() != nil {}
      #expect(pair.a.receive(Array(clear.dropFirst())).sent.isEmpty)
      #expect(Self.serve(pair.a) == 1)
      #expect(pair.a.releaseKeyed().sent.count == 3)
    }

    @Test func aStoppedSAIsNotKeyed() throws {
      let pair = try Self.pair()
      let clear = try #require(Self.packets[.v6])
      #expect(pair.a.receive(clear).sent.isEmpty)
      try pair.a.security.delete(
        Pair.sa(.esp, .tunnel, .v6, spi: 0x2000, transform: .esp(.aesGCM16)).identifier, origin: 0)
      #expect(Self.serve(pair.a) == 1 && pair.a.security.scheduleCount == 1)
      let released = pair.a.releaseKeyed()
      #expect(released.sent.isEmpty)
      var mbuf: Mbuf?
      let ring = try #require(TestEAL.shared.get().host.waiting)
      while ring.dequeue(&mbuf, 1) == 1 { cdpdk_free(mbuf) }
    }
  }
}
