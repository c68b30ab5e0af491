import CLayout
import DPDK
import Engines
import Foundation
import IPsec
import SeededRandom
import Synchronization
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// One SA, its bursts opened by two workers on two threads.
  @Suite(.serialized) struct SharedBurstTests {
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
        while !stop.flag.load(ordering: .relaxed) { if SharedBursts.help(worker) == 0 { sched_yield() } }
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
        Self.statistic(pair.b.memory, .sharedBursts) == Self.statistic(pair.b.helper!, .helpedBursts), comment)
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
      #expect(Self.statistic(pair.b.memory, .sharedBursts) == 0)
      // Entries that are left are harmless.
      while SharedBursts.help(pair.b.helper!.worker) > 0 {}
      #expect(Self.statistic(pair.b.helper!, .helpedBursts) == 0)
    }

    /// What opens to nothing, between packets that leave in pieces: records are used again before they run out.
    @Test(arguments: [1, 8, 31]) func piecesBetweenGarbage(garbage: Int) throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Pair(mtu: 1500, bursts: try Self.ring.get())
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      let used = TestGateway.buffersInUse
      let bad = Packets.ip(
        from: Pair.wan4.0, to: Pair.wan4.1, number: IPProtocol.esp,
        payload: [0, 0, 0x10, 0, 0, 0, 0, 1] + generator.bytes(600))
      // In clear, and not from a network that is to be protected.
      let large = Packets.udp(from: "198.51.100.7", to: Pair.host4.1, payload: generator.bytes(8900))
      var packets: [[UInt8]] = []
      for _ in 0..<HandoffMemory.mostBursts {
        packets += Array(repeating: bad, count: garbage) + Array(repeating: large, count: 32 - garbage)
      }
      for _ in 0..<2 {
        let outcome = pair.b.receiveHanded(packets)
        #expect(outcome.drops[.integrity] == UInt64(garbage * HandoffMemory.mostBursts), comment)
        // Seven pieces each, if the ring behind the port that stands for the link holds them.
        let lost = outcome.drops[.handoffFull, default: 0]
        #expect(outcome.sent.count + Int(lost) == (32 - garbage) * HandoffMemory.mostBursts * 7, comment)
        #expect(outcome.drops.keys.allSatisfy { $0 == .integrity || $0 == .handoffFull }, comment)
      }
      #expect(pair.b.worker.pointee.records.count == 0)
      #expect(TestGateway.buffersInUse == used, comment)
    }

    /// Opened packets that leave in pieces, by a link or by another tunnel, and clear IPsec between them that is not handed.
    @Test func piecesOfWhatWasOpened() throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Pair(bursts: try Self.ring.get())
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      let hosts = Pair.hosts(.v4)
      let clear = (0..<HandoffMemory.mostPackets).map { _ in
        Packets.udp(from: hosts.0, to: hosts.1, payload: generator.bytes(8800))
      }
      var sealed: [[UInt8]] = []
      for start in stride(from: 0, to: clear.count, by: 32) {
        sealed += pair.a.receive(Array(clear[start..<start + 32])).sent
      }
      // The links behind the gateway take less than those before it.
      try pair.b.setMTU(1500)
      // Ends what was handed before it: AH by an SPI that nobody has.
      let other = Packets.ip(
        from: Pair.wan4.0, to: Pair.wan4.1, number: IPProtocol.ah, payload: [4, 4] + generator.bytes(40))
      for position in [100, 170] { sealed[position] = other }
      let outcome = pair.b.receiveHanded(sealed)
      let lost = outcome.drops[.handoffFull, default: 0]
      #expect(outcome.drops.keys.allSatisfy { $0 == .noSA || $0 == .handoffFull }, comment)
      #expect(outcome.drops[.noSA] == 2, comment)
      #expect(outcome.sent.count + Int(lost) == (HandoffMemory.mostPackets - 2) * 6, comment)
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
