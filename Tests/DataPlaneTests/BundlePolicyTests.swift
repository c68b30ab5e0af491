import Engines
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Packets that come through several SAs must have come through all that their policy asks for.
  @Suite(.serialized) struct BundlePolicyTests {
    static func layers(_ family: AddressFamily = .v4) -> [SAParameters] {
      // Without a window, for senders take turns here.
      var layers = [
        Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16), requestID: 1),
        Pair.sa(.ah, .transport, family, transform: .ah(.hmacSHA256), requestID: 2),
      ]
      for index in layers.indices { layers[index].replayWindow = 0 }
      return layers
    }

    static func packet(_ port: UInt16 = 2000) -> [UInt8] {
      Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: Array(0..<64), ports: (1000, port))
    }

    /// The ESP alone, made by a gateway whose policy asks for no more.
    static func withoutAH() throws -> TestGateway {
      let pair = try Pair()
      try pair.add([layers()[0]], for: Pair.subnets(.v4))
      return pair.a
    }

    @Test func aMissingLayerIsRefused() throws {
      let pair = try Pair()
      try pair.add(Self.layers(), for: Pair.subnets(.v4))
      let onlyESP = try Self.withoutAH()
      #expect(pair.b.receive(onlyESP.receive([Self.packet()]).sent).drops == [.tunnelPolicy: 1])
      // What was decided for whole bundles does not serve packets that have less, nor the other way round.
      #expect(pair.b.receive(pair.a.receive([Self.packet()]).sent).sent.count == 1)
      #expect(pair.b.receive(onlyESP.receive([Self.packet()]).sent).drops == [.tunnelPolicy: 1])
      #expect(pair.b.receive(pair.a.receive([Self.packet()]).sent).sent.count == 1)
      #expect(pair.b.receive([Self.packet()]).drops == [.policyInClear: 1])
    }

    @Test func anotherRequestIDIsRefused() throws {
      let pair = try Pair()
      try pair.add(Self.layers(), for: Pair.subnets(.v4))
      let other = try Pair()
      var layers = Self.layers()
      layers[1].spi = 0x2000
      layers[1].requestID = 7
      try other.add(layers, for: Pair.subnets(.v4))
      try pair.b.security.add(layers[1], origin: 0)
      let sealed = other.a.receive([Self.packet()]).sent
      #expect(sealed.count == 1)
      #expect(pair.b.receive(sealed).drops == [.tunnelPolicy: 1])
    }

    /// The selectors of all SAs that a packet came by hold for it, not those of the last one alone.
    @Test func everyLayersOwnSelectorCounts() throws {
      for layer in 0..<2 {
        for (host, isRight) in [(Pair.host4.1, true), ("10.2.0.10", false)] {
          let pair = try Pair()
          try pair.add(Self.layers(), for: Pair.subnets(.v4))
          var narrow = Self.layers()[layer]
          narrow.selector = Selector(source: IPPrefix(Pair.lan4.0)!, destination: IPPrefix(host)!)
          try pair.b.security.delete(narrow.identifier, origin: 0)
          try pair.b.security.add(narrow, origin: 0)
          let outcome = pair.b.receive(pair.a.receive([Self.packet()]).sent)
          #expect(outcome.sent.count == (isRight ? 1 : 0))
          #expect(outcome.drops == (isRight ? [:] : [.innerSelector: 1]), "layer \(layer)")
        }
      }
    }

    /// SAs with selectors of their own share a policy; what none of them carries waits for one.
    @Test func packetsHaveTheSAThatMayCarryThem() throws {
      let pair = try Pair()
      let hosts = ["10.2.0.9", "10.2.0.10", "10.2.0.11"]
      func sa(_ spi: UInt32, _ host: String) -> SAParameters {
        var sa = Pair.sa(.esp, .tunnel, .v4, spi: spi, transform: .esp(.aesGCM16), requestID: 1)
        sa.selector = Selector(source: IPPrefix(Pair.lan4.0)!, destination: IPPrefix(host)!)
        return sa
      }
      func spis() -> [UInt32] {
        let packets = hosts.map { Packets.udp(from: Pair.host4.0, to: $0, payload: [1, 2, 3]) }
        return pair.a.receive(packets).sent.map { $0[20..<24].reduce(0) { $0 << 8 | UInt32($1) } }
      }
      try pair.add([sa(0x1000, hosts[0])], for: Pair.subnets(.v4))
      #expect(spis() == [0x1000])
      try pair.a.security.add(sa(0x2000, hosts[1]), origin: 0)
      #expect(spis() == [0x1000, 0x2000])
      try pair.a.security.add(sa(0x3000, hosts[0]), origin: 0)
      #expect(spis() == [0x3000, 0x2000])
      try pair.a.security.delete(sa(0x2000, hosts[1]).identifier, origin: 0)
      #expect(spis() == [0x3000])
    }

    /// A tunnel of an XFRM interface, or of marked packets, for everything: other packets go on as if it were not there.
    @Test(arguments: [true, false]) func policiesOfInterfacesAndMarksHaveNoPackets(_ byInterface: Bool) throws {
      let pair = try Pair()
      let packet = Self.packet()
      for direction in [PolicyDirection.out, .in, .forward] {
        var policy = PolicyParameters(
          direction: direction, selector: Selector(source: .any(.v4), destination: .any(.v4)),
          templates: [SATemplate(source: Pair.ends(.v4).0, destination: Pair.ends(.v4).1)])
        policy.priority = 1
        if byInterface { policy.interfaceID = 5 } else { policy.mark = Mark(value: 5, mask: .max) }
        _ = try pair.a.security.add(policy, replacing: false, origin: 0)
      }
      #expect(pair.a.receive([packet]).sent == [Packets.forwarded(packet, hops: 1)])
    }

    @Test func stoppedLayersStopTheBundle() throws {
      let pair = try Pair()
      try pair.add(Self.layers(), for: Pair.subnets(.v4))
      #expect(pair.a.receive([Self.packet()]).sent.count == 1)
      try pair.a.security.delete(Self.layers()[1].identifier, origin: 0)
      let outcome = pair.a.receive([Self.packet()])
      #expect(outcome.sent.isEmpty)
    }
  }
}
