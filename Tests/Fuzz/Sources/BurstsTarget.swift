import DPDK
import Engines
import IPsec
import Routing
import Wire

@testable import DataPlane

/// Rounds of a worker that hands bursts to others, or not, with all that takes records and room in its arrays: packets that
/// are cut before a tunnel, behind it or by the link, answers to senders, IPsec that opens and that does not. Every record
/// and every buffer comes back; the arrays end at guard pages.
///
/// Input: options(1), then blocks, each kind(1) times(1) size(2) bytes.
enum BurstsTarget: FuzzTarget {
  enum Kind: UInt8, CaseIterable {
    /// ESP by a standing SPI with a wrong ICV.
    case garbage
    /// ESP that opens to a packet for a host inside, for one outside by another tunnel, or to one whose hops are used up.
    case opened, openedHairpin, openedDying
    /// In clear: through, by a tunnel; each with DF and with its last hop too.
    case clear, clearWhole, clearDying, protected, protectedWhole
    /// IPsec that is not handed, and the fuzzer's own bytes.
    case authenticated, raw
  }

  private static let mtu = 1500
  nonisolated(unsafe) private static let gateway: TestGateway = {
    do {
      _ = try TestEAL.shared.get()
      let ring = try MbufRing(name: "fuzz-bursts", capacity: 15, mode: [])
      let gateway = try Pair(mtu: mtu, bursts: ring).b
      for sa in try InboundTarget.associations() { try gateway.security.add(sa, origin: 0) }
      let (near, far) = Pair.ends(.v4)
      // What leaves goes by an SA of its own, to the same far end.
      let out = SAParameters(
        spi: 0x2000, source: far, destination: near, saProtocol: .esp, mode: .tunnel, transform: .esp(.aesGCM16))
      try gateway.security.add(out, origin: 0)
      let back = Selector(source: IPPrefix("0.0.0.0/0")!, destination: IPPrefix(Pair.lan4.0)!)
      for (direction, selector, type) in [
        (PolicyDirection.in, Selector(source: back.destination, destination: back.source), PolicyType.use),
        (.out, back, .require),
      ] {
        let ends = direction == .out ? (far, near) : (near, far)
        var policy = PolicyParameters(
          direction: direction, selector: selector, type: type,
          templates: [SATemplate(source: ends.0, destination: ends.1)])
        policy.priority = 1000
        _ = try gateway.security.add(policy, replacing: false, origin: 0)
      }
      // As many answers as there are reasons for.
      gateway.worker.pointee.icmpBucket = TokenBucket(perSecond: 1 << 30, burst: 1 << 20, ticksPerSecond: 1 << 30)
      return gateway
    } catch {
      fatalError("\(error)")
    }
  }()

  static func fuzz(_ input: FuzzInput) {
    var input = input
    let options = input.byte()
    var packets: [[UInt8]] = []
    for block in input.blocks(atMost: 32) where block.count >= 4 {
      guard let kind = Kind(rawValue: block[0] % UInt8(Kind.allCases.count)) else { continue }
      let size = (Int(block[2]) << 8 | Int(block[3])) % 8800
      guard let packet = packet(kind, size, Array(block.dropFirst(4))) else { continue }
      packets += Array(repeating: packet, count: Int(block[1]) % 64 + 1)
    }
    guard !packets.isEmpty else { return }
    let w = gateway.worker
    w.pointee.shared.pointee.fragmentAfter.store(options & 2 != 0, ordering: .relaxed)
    for start in stride(from: 0, to: packets.count, by: HandoffMemory.mostPackets) {
      let round = Array(packets[start..<min(start + HandoffMemory.mostPackets, packets.count)])
      if options & 1 == 0 {
        check(gateway.receiveHanded(round))
      } else {
        for first in stride(from: 0, to: round.count, by: w.pointee.burst) {
          check(gateway.receive(Array(round[first..<min(first + w.pointee.burst, round.count)])))
        }
      }
    }
    while SharedBursts.help(gateway.helper!.worker) > 0 {}
    InboundTarget.checkBuffers([gateway])
  }

  private static func check(_ outcome: TestGateway.Outcome) {
    let w = gateway.worker
    require(w.pointee.records.count == 0, "\(w.pointee.records.count) records are not given back")
    let waiting = [w.pointee.inbound, w.pointee.policy, w.pointee.outbound, w.pointee.pieces, w.pointee.transmit]
    require(waiting.allSatisfy { $0.count == 0 }, "packets wait for a stage")
    require(outcome.drops[.noRecord] == nil, "records ran out")
    require(outcome.sent.allSatisfy { $0.count <= mtu }, "larger than the link")
  }

  private static func packet(_ kind: Kind, _ size: Int, _ bytes: [UInt8]) -> [UInt8]? {
    let (wan, outside, inside) = (Pair.wan4, Pair.wan4.0, Pair.host4.1)
    let payload = bytes + [UInt8](repeating: 0x5a, count: max(0, size - bytes.count))
    func udp(_ from: String, _ to: String, dontFragment: Bool = false, hops: UInt8 = 64) -> [UInt8] {
      var packet = Packets.udp(from: from, to: to, payload: payload, dontFragment: dontFragment)
      packet[8] = hops
      return Packets.summed(packet)
    }
    // RFC 4303 2.4: up to a multiple of four.
    func sealed(_ packet: [UInt8]) -> [UInt8] {
      let padding = (4 - (packet.count + 2) % 4) % 4
      let body = packet + (0..<padding).map { UInt8($0 + 1) } + [UInt8(padding), IPProtocol.ipip]
      return Packets.ip(
        from: wan.0, to: wan.1, number: IPProtocol.esp, payload: InboundTarget.sealed(body, .espTunnel4))
    }
    switch kind {
    case .garbage:
      return Packets.ip(
        from: wan.0, to: wan.1, number: IPProtocol.esp, payload: [0, 0, 0x10, 0, 0, 0, 0, 1] + payload)
    case .opened: return sealed(udp(Pair.host4.0, inside))
    case .openedHairpin: return sealed(udp(Pair.host4.0, Pair.host4.0))
    case .openedDying: return sealed(udp(Pair.host4.0, inside, hops: 1))
    case .clear: return udp(outside, inside)
    case .clearWhole: return udp(outside, inside, dontFragment: true)
    case .clearDying: return udp(outside, inside, hops: 1)
    case .protected: return udp(inside, Pair.host4.0)
    case .protectedWhole: return udp(inside, Pair.host4.0, dontFragment: true)
    case .authenticated:
      return Packets.ip(
        from: wan.0, to: wan.1, number: IPProtocol.ah, payload: [4, 4, 0, 0, 0, 0, 0x10, 4, 0, 0, 0, 1] + payload)
    case .raw: return bytes.isEmpty ? nil : bytes
    }
  }
}
