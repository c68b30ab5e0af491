import CLayout
import Engines
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Packets that leave at once, among others that do not.
  @Suite(.serialized) struct DirectTransmitTests {
    private static let hosts = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]

    private static func packet(
      to host: String, _ number: UInt16, size: Int = 100, dontFragment: Bool = false, hops: UInt8 = 64
    ) -> [UInt8] {
      var packet = Packets.udp(
        from: "10.0.0.9", to: host, payload: [UInt8](repeating: 7, count: size), dontFragment: dontFragment)
      (packet[4], packet[5], packet[8]) = (UInt8(number >> 8), UInt8(number & 255), hops)
      return Packets.summed(packet)
    }

    private static func numbers(_ packets: [[UInt8]], to host: String) -> [UInt16] {
      packets.filter { $0[16..<20].elementsEqual(IPAddress(host)!.bytes) }.map { UInt16($0[4]) << 8 | UInt16($0[5]) }
    }

    /// Of one host none overtakes another, whether it goes at once, in fragments or not at all.
    @Test func nothingIsOvertaken() throws {
      var generator = SeededGenerator()
      let gateway = try TestGateway(own: ["10.0.0.1/24"], far: [], neighbors: Self.hosts + ["10.0.0.9"], mtu: 1000)
      let used = TestGateway.buffersInUse
      for round in 0..<500 {
        let comment: Comment = "seed \(generator.seed), round \(round)"
        var packets: [[UInt8]] = []
        var (expired, tooBig) = (0, 0)
        var expected: [String: [UInt16]] = [:]
        for number in 0..<Int.random(in: 1...32, using: &generator) {
          let host = Self.hosts[generator.below(4) == 0 ? generator.below(3) : 0]
          let (kind, id) = (generator.below(12), UInt16(number + 1))
          packets.append(
            Self.packet(
              to: host, id, size: kind <= 1 ? 1500 : generator.below(900), dontFragment: kind == 1,
              hops: kind == 2 ? 1 : 64))
          if kind == 1 {
            tooBig += 1
          } else if kind == 2 {
            expired += 1
          } else {
            expected[host, default: []].append(id)
          }
        }
        let outcome = gateway.receive(packets)
        for host in Self.hosts {
          var sent = Self.numbers(outcome.sent, to: host)
          // The fragments of one stand together.
          var i = 1
          while i < sent.count { if sent[i] == sent[i - 1] { sent.remove(at: i) } else { i += 1 } }
          #expect(sent == expected[host] ?? [], comment)
        }
        #expect(outcome.drops[.ttlExpired] ?? 0 == expired, comment)
        #expect(outcome.drops[.fragmentNeeded] ?? 0 == tooBig, comment)
      }
      #expect(TestGateway.buffersInUse == used)
    }

    /// What comes out of a tunnel is counted against the policy that lets it in, by whichever way it leaves.
    @Test func policiesCountWhatTheyLetIn() throws {
      var generator = SeededGenerator()
      let pair = try Pair(mtu: 1500, engines: RoundTripTests.engines)
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      let hosts = Pair.hosts(.v4)
      var (packets, bytes) = (0, 0)
      for _ in 0..<50 {
        let clear = (0..<Int.random(in: 1...32, using: &generator)).map { _ in
          Packets.udp(from: hosts.0, to: hosts.1, payload: generator.content(generator.below(1000)))
        }
        let opened = pair.b.receive(pair.a.receive(clear).sent)
        #expect(opened.sent == clear.map { Packets.forwarded($0, hops: 2) })
        packets += clear.count
        bytes += clear.reduce(0) { $0 + $1.count }
      }
      let w = pair.b.worker
      var key = try #require(pair.b.sort([Packets.udp(from: hosts.0, to: hosts.1, payload: [])]).policy.first).key
      key.direction = UInt8(GW_IN.rawValue)
      let policy = try #require(w.pointee.spd.lookup(&key))
      let counted = w.pointee.counters.read(slot: Int(policy.pointee.slot))
      #expect(counted.packets == UInt64(packets) && counted.bytes == UInt64(bytes), "seed \(generator.seed)")
    }
  }
}
