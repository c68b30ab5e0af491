import CDPDK
import DPDK
import Testing

@testable import DataPlane

extension DataPlaneTests {
  /// Packets that wait for an SA: in order, within limits, never lost.
  @Suite(.serialized) struct SAQueueTests {
    private static func packet(_ bytes: Int) throws -> Mbuf {
      let pools = try TestEAL.shared.get().pools
      let mbuf = try #require(pools.all.first?.allocate())
      mbuf.setLength(bytes)
      return mbuf
    }

    private static func wait(_ mbuf: Mbuf, for policy: UInt32, in queue: inout SAQueue, now: Double = 0) throws {
      let isTaken = queue.add(mbuf, for: .policy(policy), now: now)
      try #require(isTaken)
    }

    private static func free(_ mbufs: [Mbuf]) { for mbuf in mbufs { cdpdk_free(mbuf) } }

    @Test func aPolicysPacketsComeBackInOrder() throws {
      let used = TestGateway.buffersInUse
      var queue = SAQueue()
      let packets = try (0..<6).map { try Self.packet(100 + $0) }
      for (index, packet) in packets.enumerated() { try Self.wait(packet, for: UInt32(index % 2), in: &queue) }
      #expect(queue.count == 6)
      let odd = queue.take(.policy(1))
      let again = queue.take(.policy(1))
      #expect(odd == [packets[1], packets[3], packets[5]])
      #expect(again.isEmpty && queue.count == 3)
      Self.free(odd + queue.takeAll())
      #expect(queue.count == 0 && TestGateway.buffersInUse == used)
    }

    @Test func limitsOfAPolicy() throws {
      var queue = SAQueue()
      let packets = try (0...SAQueue.packetsPerPolicy).map { _ in try Self.packet(64) }
      let taken = packets.map { queue.add($0, for: .policy(8), now: 0) }
      #expect(taken == packets.indices.map { $0 < SAQueue.packetsPerPolicy })
      let large = try (0..<5).map { _ in try Self.packet(8000) }
      let takenToo = large.map { queue.add($0, for: .policy(16), now: 0) }
      #expect(takenToo == [true, true, true, true, false])
      Self.free(queue.takeAll() + [packets.last, large.last].compactMap(\.self))
    }

    @Test func patienceEnds() throws {
      var queue = SAQueue()
      try Self.wait(Self.packet(64), for: 8, in: &queue, now: 10)
      try Self.wait(Self.packet(64), for: 8, in: &queue, now: 14)
      try Self.wait(Self.packet(64), for: 16, in: &queue, now: 14)
      let early = queue.expired(now: 10 + SAQueue.patience)
      #expect(early.isEmpty)
      let gone = queue.expired(now: 15.1)
      #expect(gone.count == 2 && queue.count == 1)
      Self.free(gone + queue.takeAll())
    }
  }
}
