import CLayout
import DPDK
import Engines
import Foundation
import IPsec
import SeededRandom
import Synchronization
import Testing

@testable import DataPlane

extension DataPlaneTests {
  /// One SA, its bursts opened by two workers on two threads.
  @Suite(.serialized) struct HandedBurstTests {
    static let ring = Result {
      _ = try TestEAL.shared.get()
      return try MbufRing(name: "test-bursts", capacity: 15, mode: [])
    }

    /// Has `gateway`'s second worker help on a thread of its own while `body` runs.
    static func helping(_ gateway: TestGateway, _ body: () throws -> Void) rethrows {
      let helper = UInt(bitPattern: gateway.helper!.worker)
      let stop = Stop()
      let thread = Thread {
        let worker = UnsafeMutablePointer<Worker>(bitPattern: helper)!
        while !stop.flag.load(ordering: .relaxed) { if HandedBursts.help(worker) == 0 { sched_yield() } }
        stop.ended.signal()
      }
      thread.start()
      defer {
        stop.flag.store(true, ordering: .relaxed)
        stop.ended.wait()
      }
      try body()
    }

    final class Stop: Sendable {
      let flag = Atomic(false)
      let ended = DispatchSemaphore(value: 0)
    }

    static func statistic(_ worker: WorkerMemory, _ statistic: Worker.Statistic) -> UInt64 {
      (worker.worker.pointee.statistics + statistic.rawValue).value
    }

    /// As many packets as one round takes, each different.
    static func packets(_ pair: Pair, _ generator: inout SeededGenerator, size: Int) -> (
      clear: [[UInt8]], esp: [[UInt8]]
    ) {
      let hosts = Pair.hosts(.v4)
      let clear = (0..<HandoffMemory.mostPackets).map { _ in
        Packets.udp(from: hosts.0, to: hosts.1, payload: generator.bytes(size))
      }
      var sealed: [[UInt8]] = []
      for start in stride(from: 0, to: clear.count, by: 32) {
        sealed += pair.a.receive(Array(clear[start..<start + 32])).sent
      }
      return (clear, sealed)
    }

    static let transforms: [CryptoTransform] = [
      .esp(.aesGCM16), .esp(.aesCBC, .hmacSHA256), .esp(.chacha20Poly1305),
    ]

    @Test(arguments: transforms.indices, [false, true])
    func orderAndReplay(_ transform: Int, esn: Bool) throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Pair(engines: RoundTripTests.engines, bursts: try Self.ring.get())
      try pair.add(
        [Pair.sa(.esp, .tunnel, .v4, transform: Self.transforms[transform], esn: esn)], for: Pair.subnets(.v4))
      let used = TestGateway.buffersInUse
      Self.helping(pair.b) {
        // Until the helper has got some: on a busy machine it may come late.
        let end = Date(timeIntervalSinceNow: 60)
        var rounds = 0
        while rounds < 4 || Self.statistic(pair.b.helper!, .helpedBursts) == 0, Date() < end {
          let (clear, sealed) = Self.packets(pair, &generator, size: 700)
          #expect(sealed.count == clear.count, comment)
          let opened = pair.b.receiveHanded(sealed)
          #expect(opened.drops == [:], comment)
          #expect(opened.sent == clear.map { Packets.forwarded($0, hops: 2) }, comment)
          let again = pair.b.receiveHanded(sealed)
          #expect(again.sent.isEmpty, comment)
          // With ESN, numbers below the window are taken for later ones (RFC 4303 A2.2), and do not authenticate.
          #expect(again.drops.values.reduce(0, +) == UInt64(sealed.count), comment)
          rounds += 1
        }
      }
      #expect(Self.statistic(pair.b.helper!, .helpedBursts) > 0, comment)
      #expect(
        Self.statistic(pair.b.memory, .handedBursts) == Self.statistic(pair.b.helper!, .helpedBursts), comment)
      #expect(TestGateway.buffersInUse == used, comment)
    }

    /// Nobody comes: the lead does all, also when the ring is full of entries that nobody takes.
    @Test func withoutHelp() throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Pair(engines: RoundTripTests.engines, bursts: try Self.ring.get())
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      for _ in 0..<4 {
        let (clear, sealed) = Self.packets(pair, &generator, size: 700)
        let opened = pair.b.receiveHanded(sealed)
        #expect(opened.drops == [:] && opened.sent == clear.map { Packets.forwarded($0, hops: 2) }, comment)
      }
      #expect(Self.statistic(pair.b.memory, .handoffRingFull) > 0)
      #expect(Self.statistic(pair.b.memory, .handedBursts) == 0)
      // Entries that are left are harmless.
      while HandedBursts.help(pair.b.helper!.worker) > 0 {}
      #expect(Self.statistic(pair.b.helper!, .helpedBursts) == 0)
    }

    /// One packet in each burst does not authenticate, one comes twice, and clear packets are between them.
    @Test func whatIsWrongStaysWrong() throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Pair(engines: RoundTripTests.engines, bursts: try Self.ring.get())
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      var (clear, sealed) = Self.packets(pair, &generator, size: 700)
      var expected = clear.map { Packets.forwarded($0, hops: 2) }
      for start in stride(from: 0, to: sealed.count, by: 32).reversed() {
        sealed[start + 3][100] ^= 1
        sealed[start + 20] = sealed[start + 19]
        expected.remove(at: start + 20)
        expected.remove(at: start + 3)
      }
      clear.removeAll()
      Self.helping(pair.b) {
        let opened = pair.b.receiveHanded(sealed)
        #expect(opened.sent == expected, comment)
        #expect(opened.drops == [.integrity: 8, .replayDuplicate: 8], comment)
      }
    }
  }
}
