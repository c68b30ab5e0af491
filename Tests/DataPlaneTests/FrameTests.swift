import DPDK
import IPsec
import Routing
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// What kinds of frames come in and go out, before their packets are looked at.
  @Suite(.serialized) struct FrameTests {
    private static let all = MACAddress(rawValue: 0xffff_ffff_ffff)
    private static let arp: UInt16 = 0x0806

    private static func gateway() throws -> TestGateway {
      try TestGateway(
        own: ["198.51.100.2/24", "2001:db8:ffff::2/64"], far: [],
        neighbors: ["198.51.100.1", "198.51.100.3", "2001:db8:ffff::1", "2001:db8:ffff::3"])
    }

    private static func frame(type: UInt16, _ payload: [UInt8], to destination: MACAddress = TestGateway.mac) -> [UInt8]
    {
      var frame = TestGateway.frame(payload, to: destination)
      frame.replaceSubrange(12..<14, with: [UInt8(type >> 8), UInt8(type & 255)])
      return frame
    }

    /// With a tag after the addresses.
    private static func tagged(_ frame: [UInt8], _ control: UInt16, type: UInt16 = 0x8100) -> [UInt8] {
      let tag = [type, control].flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
      return frame[..<12] + tag + frame[12...]
    }

    @Test func prioritiesAreNoVLANs() throws {
      let gateway = try Self.gateway()
      let used = TestGateway.buffersInUse
      for (peer, own, other) in [
        ("198.51.100.1", "198.51.100.2", "198.51.100.3"), ("2001:db8:ffff::1", "2001:db8:ffff::2", "2001:db8:ffff::3"),
      ] {
        let toHost = Packets.udp(from: peer, to: own, payload: Array(0..<30))
        let through = Packets.udp(from: peer, to: other, payload: Array(0..<30))
        for control: UInt16 in [0, 0xe000, 0x1000] {
          let outcome = gateway.receive(frames: [toHost, through].map { Self.tagged(TestGateway.frame($0), control) })
          #expect(outcome.drops == [:] && outcome.host == [toHost])
          #expect(outcome.sent == [Packets.forwarded(through, hops: 1)])
        }
        for control: UInt16 in [1, 0xe005, 0x0fff] {
          let outcome = gateway.receive(frames: [Self.tagged(TestGateway.frame(toHost), control)])
          #expect(outcome.drops == [.unknownEtherType: 1])
        }
        let twice = Self.tagged(Self.tagged(TestGateway.frame(toHost), 0), 0)
        #expect(gateway.receive(frames: [twice]).drops == [.unknownEtherType: 1])
        let elsewhere = TestGateway.frame(toHost, to: MACAddress(rawValue: 0x0200_0000_0099))
        #expect(gateway.receive(frames: [Self.tagged(elsewhere, 0)]).drops == [.notForUs: 1])
      }
      let question = [UInt8](repeating: 7, count: 28)
      for destination in [TestGateway.mac, Self.all] {
        let frame = Self.tagged(Self.frame(type: Self.arp, question, to: destination), 0x2000)
        #expect(gateway.receive(frames: [frame]).host == [question])
      }
      // Cut off.
      let cut = Self.tagged(Self.frame(type: Self.arp, []), 0)
      for length in 14..<18 {
        #expect(gateway.receive(frames: [Array(cut[..<length])]).drops == [.unknownEtherType: 1])
      }
      #expect(TestGateway.buffersInUse == used)
    }

    /// The second port has no TAP. What is for an address of the gateway goes to the first one's, what is of the link to none:
    /// there it would be taken for another link's.
    @Test func whatIsOfALinkGoesToItsOwnTAPAlone() throws {
      let gateway = try TestGateway(
        own: ["198.51.100.2/24", "2001:db8:ffff::2/64"], far: [], neighbors: [],
        lan: (["10.2.0.1/16", "2001:db8:b::1/48"], ["10.2.0.9", "2001:db8:b::9"]))
      let used = TestGateway.buffersInUse
      let group = MACAddress(rawValue: 0x3333_0000_0001)
      func solicitation(of target: String) -> [UInt8] {
        var packet = Packets.ip(
          from: "2001:db8:b::9", to: target, number: 58, payload: [135, 0] + [UInt8](repeating: 1, count: 22))
        packet[7] = 255
        return packet
      }
      func datagram(_ source: String, _ destination: String) -> [UInt8] {
        Packets.udp(from: source, to: destination, payload: [1, 2, 3])
      }
      let ofLink = [
        Self.frame(type: Self.arp, [UInt8](repeating: 7, count: 28), to: Self.all),
        Self.frame(type: Self.arp, [UInt8](repeating: 7, count: 28)),
        TestGateway.frame(datagram("10.2.0.9", "224.0.0.5"), to: MACAddress(rawValue: 0x0100_5e00_0005)),
        TestGateway.frame(datagram("10.2.0.9", "255.255.255.255"), to: Self.all),
        TestGateway.frame(datagram("10.2.0.9", "10.2.255.255"), to: Self.all),
        TestGateway.frame(datagram("2001:db8:b::9", "ff02::5"), to: group),
        TestGateway.frame(datagram("fe80::9", "fe80::1")),
        TestGateway.frame(solicitation(of: "ff02::1:ff00:1"), to: group),
        TestGateway.frame(solicitation(of: "2001:db8:b::1")),
      ]
      for frame in ofLink {
        let outcome = gateway.receive(frames: [frame, frame], port: 1)
        #expect(outcome.host.isEmpty && outcome.drops == [.hostMalformed: 2], "\(frame)")
      }
      for (source, own) in [
        ("10.2.0.9", "10.2.0.1"), ("10.2.0.9", "198.51.100.2"), ("2001:db8:b::9", "2001:db8:b::1"),
      ] {
        let packet = datagram(source, own)
        #expect(gateway.receive([packet, packet], port: 1).host == [packet, packet])
      }
      #expect(TestGateway.buffersInUse == used)
    }

    @Test func theHostSendsIPAndARPOnly() throws {
      let gateway = try Self.gateway()
      let used = TestGateway.buffersInUse
      let packet = Packets.udp(from: "198.51.100.2", to: "198.51.100.1", payload: [1])
      let question = [UInt8](repeating: 7, count: 28)
      #expect(gateway.sendFromHost(frames: [Self.frame(type: Self.arp, question, to: Self.all)]).sent == [question])
      #expect(gateway.sendFromHost(frames: [TestGateway.frame(packet)]).sent == [packet])
      var frames = [UInt16(0x8863), 0x8864, 0x88cc, 0x88a8, 0x8847, 0x0026].map { Self.frame(type: $0, packet) }
      frames += [0, 5].map { Self.tagged(TestGateway.frame(packet), $0) }
      let outcome = gateway.sendFromHost(frames: frames)
      #expect(outcome.sent.isEmpty && outcome.drops == [.hostEtherType: UInt64(frames.count)])
      #expect(TestGateway.buffersInUse == used)
    }

    /// By the policies, both ways.
    @Test func groupsHaveTheirPolicy() throws {
      for (own, peer, group, mac) in [
        ("198.51.100.2", "198.51.100.1", "224.0.0.5", MACAddress(rawValue: 0x0100_5e00_0005)),
        ("198.51.100.2", "198.51.100.1", "198.51.100.255", Self.all),
        ("198.51.100.2", "198.51.100.1", "255.255.255.255", Self.all),
        ("2001:db8:ffff::2", "2001:db8:ffff::1", "ff02::5", MACAddress(rawValue: 0x3333_0000_0005)),
        ("2001:db8:ffff::2", "fe80::1", "ff02::5", MACAddress(rawValue: 0x3333_0000_0005)),
      ] {
        let gateway = try Self.gateway()
        let heard = Packets.udp(from: peer, to: group, payload: [1, 2, 3])
        let said = Packets.udp(from: own, to: group, payload: [1, 2, 3])
        func outcomes() -> (TestGateway.Outcome, TestGateway.Outcome) {
          (
            gateway.receive(frames: [TestGateway.frame(heard, to: mac)]),
            gateway.sendFromHost(frames: [TestGateway.frame(said, to: mac)])
          )
        }
        let free = outcomes()
        #expect(free.0.host == [heard] && free.1.sent == [said], "\(group)")
        for direction in [PolicyDirection.in, .out] {
          let any = IPPrefix.any(IPAddress(own)!.family)
          try gateway.add(
            PolicyParameters(direction: direction, selector: Selector(source: any, destination: any), type: .deny))
        }
        let denied = outcomes()
        #expect(denied.0.drops == [.policyDenyIn: 1] && denied.0.host.isEmpty, "\(group)")
        #expect(denied.1.drops == [.policyDenyOut: 1] && denied.1.sent.isEmpty, "\(group)")
      }
    }

    /// What the kernel sends to a neighbour's link-local address has its policy too.
    @Test func linkLocalAddressesHaveTheirPolicy() throws {
      let gateway = try Self.gateway()
      let packet = Packets.udp(from: "fe80::2", to: "fe80::1", payload: [1, 2, 3])
      #expect(gateway.sendFromHost([packet]).sent == [packet])
      let any = IPPrefix("fe80::/10")!
      try gateway.add(PolicyParameters(direction: .out, selector: Selector(source: any, destination: any), type: .deny))
      #expect(gateway.sendFromHost([packet]).drops == [.policyDenyOut: 1])
    }

    /// RFC 5549: IPv4 by an IPv6 next hop, which is asked for by its own family.
    @Test func ipv4GoesByAnIPv6NextHop() throws {
      let gateway = try Self.gateway()
      let hop = IPAddress("fe80::7")!
      try gateway.routing.add(Route(IPPrefix("10.8.0.0/16")!, .via(hop, port: 0)))
      gateway.worker.pointee.routing &+= 1
      let packet = Packets.udp(from: "198.51.100.1", to: "10.8.0.1", payload: [1, 2, 3])
      #expect(gateway.receive([packet]).sent.isEmpty)
      let waiting = try #require(gateway.takeWaiting().first)
      #expect(waiting.kind == .waitsForNeighbor && waiting.nextHop == hop && waiting.version == 4)
      try gateway.routing.setNeighbor(NeighborKey(port: 0, address: hop), mac: TestGateway.mac, state: .reachable)
      gateway.worker.pointee.routing &+= 1
      #expect(gateway.receive([packet]).sent == [Packets.forwarded(packet, hops: 1)])
    }

    /// RFC 5095: to the gateway, through it, and in a tunnel; other routing headers are let through.
    @Test func ipv6SourceRoutesAreRefused() throws {
      func packet(_ from: String, _ to: String, type: UInt8, left: UInt8) -> [UInt8] {
        let header = [17, 2, type, left, 0, 0, 0, 0] + [UInt8](repeating: 0x20, count: 16)
        return Packets.ip(from: from, to: to, number: 43, payload: header + [0, 7, 0, 7, 0, 8, 0, 0])
      }
      let gateway = try Self.gateway()
      for to in ["2001:db8:ffff::2", "2001:db8:ffff::3"] {
        for left: UInt8 in [0, 1] {
          let source = packet("2001:db8:ffff::1", to, type: 0, left: left)
          #expect(gateway.receive([source]).drops == [.ipSourceRoute: 1])
          #expect(gateway.receive([packet("2001:db8:ffff::1", to, type: 2, left: left)]).drops == [:])
        }
      }
      let pair = try Pair()
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v6))
      let clear = packet(Pair.host6.0, Pair.host6.1, type: 2, left: 1)
      let sealed = pair.a.receive([clear]).sent
      #expect(pair.b.receive(sealed).sent == [Packets.forwarded(clear, hops: 2)])
      #expect(pair.a.receive([packet(Pair.host6.0, Pair.host6.1, type: 0, left: 1)]).drops == [.ipSourceRoute: 1])
    }
  }
}
