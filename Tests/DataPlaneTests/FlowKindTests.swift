import CDPDK
import CLayout
import IPsec
import Routing
import Testing
import Wire

@testable import DataPlane

/// What became of packets, but for what differs from packet to packet in any case: identifications, sequence numbers and
/// what is encrypted.
struct Treatment: Equatable, CustomStringConvertible {
  var sent: [String]
  var host: [String]
  var drops: [DropReason: UInt64]
  /// Packets, bytes, failures and drops of each SA and policy.
  var counters: [UInt64]
  var waiting: Int

  static func + (a: Self, b: Self) -> Self {
    Self(
      sent: (a.sent + b.sent).sorted(), host: (a.host + b.host).sorted(),
      drops: a.drops.merging(b.drops, uniquingKeysWith: +),
      counters: zip(a.counters, b.counters).map(+), waiting: a.waiting + b.waiting)
  }

  var description: String {
    let charged = counters.indices.filter { counters[$0] != 0 }.map { "\($0 / 5).\($0 % 5): \(counters[$0])" }
    return "sent \(sent), host \(host), drops \(drops), waiting \(waiting), charged \(charged)"
  }

  /// Version, addresses, protocol, place in the datagram, length and hops.
  static func summary(_ packet: [UInt8]) -> String {
    let isV6 = packet[0] >> 4 == 6
    let addresses = packet[(isV6 ? 8 : 12)..<(isV6 ? 40 : 20)]
    let piece = isV6 ? (packet[6] == 44 ? Array(packet[40..<44]) : []) : Array(packet[6..<8])
    return "\(Array(addresses)) \(packet[isV6 ? 6 : 9]) \(piece) \(packet.count) \(packet[isV6 ? 7 : 8])"
  }
}

extension TestGateway {
  private static var slots: Range<Int> { 0..<24 }

  /// Frames of one way, in one burst.
  func treat(_ frames: [[UInt8]], _ way: FlowKind.Way) -> Treatment {
    let before = charged
    Self.forgetWaiting()
    let outcome =
      way == .host ? sendFromHost(frames: frames) : receive(frames: frames, port: way == .wan ? 0 : 1)
    let counters = zip(charged, before).map(-)
    return Treatment(
      sent: outcome.sent.map { "\(outcome.byLAN.contains($0)) " + Treatment.summary($0) }.sorted(),
      host: outcome.host.map(Treatment.summary).sorted(), drops: outcome.drops, counters: counters,
      waiting: Self.forgetWaiting())
  }

  private var charged: [UInt64] {
    Self.slots.flatMap {
      let counters = worker.pointee.counters.read(slot: $0)
      return [
        counters.packets, counters.bytes, UInt64(counters.integrity_failures), UInt64(counters.replayed),
        UInt64(counters.drops),
      ]
    }
  }

  /// As if it had seen no packet.
  func forget() {
    // What the flow cache has is void.
    worker.pointee.routing &+= 1
    _ = expireFragments()
    while worker.pointee.events.pop() != nil {}
    worker.pointee.icmpBucket = TokenBucket(perSecond: 1_000_000, burst: 1000, ticksPerSecond: 1_000_000)
  }
}

extension DataPlaneTests {
  /// A flow cache entry says only what holds for every packet of its key.
  @Suite(.serialized) struct FlowKindTests {
    /// Of all pairs of kinds, the second is treated as by a gateway that has seen no packet, whether it comes in the same
    /// burst as the first or later.
    @Test(.timeLimit(.minutes(4))) func nobodyIsTreatedAsTheOneBefore() throws {
      let bench = try FlowKindBench()
      let kinds = bench.kinds
      var id: UInt16 = 0
      func frame(_ kind: FlowKind) -> [UInt8] {
        id &+= 1
        return kind.frame(id)
      }
      let gateway = try FlowKindBench.gateway()
      var fresh: [Treatment] = []
      for (index, kind) in kinds.enumerated() {
        gateway.forget()
        fresh.append(gateway.treat([frame(kind)], kind.way))
        // The same as by one that is made for it alone, of which there cannot be too many.
        if index % 16 == 0 { #expect(try FlowKindBench.gateway().treat([frame(kind)], kind.way) == fresh[index]) }
      }
      var wrong = 0
      for (first, before) in kinds.enumerated() {
        for (second, kind) in kinds.enumerated() {
          gateway.forget()
          let isAlone = gateway.treat([frame(before)], before.way) == fresh[first]
          let treatment = gateway.treat([frame(kind)], kind.way)
          var isRight = isAlone && treatment == fresh[second]
          if isRight, before.way == kind.way {
            gateway.forget()
            isRight = gateway.treat([frame(before), frame(kind)], kind.way) == fresh[first] + fresh[second]
          }
          guard !isRight else { continue }
          wrong += 1
          if wrong <= 20 {
            Issue.record("\(kind.name), after \(before.name): \(treatment) and not \(fresh[second])")
          }
        }
      }
      #expect(wrong == 0)
      #expect(kinds.count > 50)
    }

    /// What each kind comes to on a fresh gateway, where it is more than that it is the same after all others.
    @Test func theKindsAreWhatTheySeem() throws {
      let bench = try FlowKindBench()
      let gateway = try FlowKindBench.gateway()
      var outcomes: [String: Treatment] = [:]
      for (number, kind) in bench.kinds.enumerated() {
        gateway.forget()
        #expect(outcomes[kind.name] == nil, "two kinds are called \(kind.name)")
        outcomes[kind.name] = gateway.treat([kind.frame(UInt16(number))], kind.way)
      }
      func drops(_ name: String, _ reason: DropReason) {
        #expect(outcomes[name]?.drops == [reason: 1], "\(name): \(String(describing: outcomes[name]))")
      }
      let (peer, own, far, near) = (
        FlowKindBench.peer, FlowKindBench.own, FlowKindBench.far, FlowKindBench.near
      )
      for source in [peer.0, FlowKindBench.denied.0, FlowKindBench.bare.0, FlowKindBench.wrapped.0] {
        drops("whole esp \(source) to \(own.0) by wan", .noSA)
        drops("encapsulated \(source) to \(own.0) by wan", .noSA)
        // Kept until the rest comes.
        #expect(outcomes["first esp \(source) to \(own.0) by wan"]?.drops == [:])
      }
      for name in ["ah", "ipcomp"] { drops("whole \(name) \(peer.1) to \(own.1) by wan", .noSA) }
      drops("known esp \(peer.0) to \(own.0) by wan", .integrity)
      drops("mismatched \(peer.0) to \(own.0) by wan", .encapsulationMismatch)
      drops("whole udp \(far) to \(near) by wan", .policyInClear)
      drops("multicast denied", .policyDenyIn)
      drops("ipv6 multicast denied", .policyDenyIn)
      drops("whole esp to a group", .noSA)
      for name in [
        "unicast in a broadcast frame", "piece in a broadcast frame", "ipv6 unicast in a group's frame",
        "transit in a group's frame", "whole esp in a broadcast frame", "first esp in a broadcast frame",
      ] {
        drops(name, .groupFrame)
      }
      for name in ["dhcp", "limited broadcast", "directed broadcast", "multicast", "ipv6 multicast"] {
        #expect(outcomes[name]?.host.count == 1, "\(name)")
      }
      #expect(outcomes["whole udp \(far) to \(near) out of a tunnel"]?.sent.count == 1)
      drops("whole udp \(near) to \(far) by wan", .sourceCheck)
      drops("udp \(own.0) to \(near) by wan", .martianSource)
    }
  }
}
