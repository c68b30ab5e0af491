import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Packets that do not show the ports that policies ask for (RFC 4301 7): what is right for each setting.
  @Suite(.serialized) struct PortlessTests {
    /// UDP to port 2000 between the subnets, or anything.
    static func selector(_ family: AddressFamily, ports: Bool, ipProtocol: UInt8? = IPProtocol.udp) -> Selector {
      var selector = Pair.subnets(family)
      if ports { (selector.ipProtocol, selector.destinationPorts) = (ipProtocol, 2000...2000) }
      return selector
    }

    static func add(
      _ gateway: TestGateway, _ direction: PolicyDirection, _ selector: Selector, _ type: PolicyType = .require,
      priority: UInt32, outer: AddressFamily = .v4, mode: SAMode = .tunnel, requestID: UInt32 = 0
    ) throws {
      let (source, destination) = Pair.ends(outer)
      let templates =
        type == .require ? [SATemplate(mode: mode, source: source, destination: destination, requestID: requestID)] : []
      var policy = PolicyParameters(direction: direction, selector: selector, type: type, templates: templates)
      policy.priority = priority
      _ = try gateway.security.add(policy, replacing: false, origin: 0)
    }

    static func pieces(_ family: AddressFamily, to port: UInt16 = 2000) -> [[UInt8]] {
      let hosts = Pair.hosts(family)
      return Packets.cut(
        Packets.udp(
          from: hosts.0, to: hosts.1, payload: [UInt8](repeating: 4, count: 600), ports: (9, port)), payload: 304)
    }

    /// Too short for its ports.
    static func short(_ family: AddressFamily) -> [UInt8] {
      let hosts = Pair.hosts(family)
      return Packets.ip(from: hosts.0, to: hosts.1, number: IPProtocol.udp, payload: [0, 9, 7])
    }

    static func set(_ gateway: TestGateway, _ choice: PortlessFragments) {
      gateway.worker.pointee.shared.pointee.portlessFragments.store(choice.rawValue, ordering: .relaxed)
    }

    /// No policy but one with ports: its flow's pieces do not leave in clear.
    @Test(arguments: [AddressFamily.v4, .v6]) func piecesDoNotLeaveInClear(_ family: AddressFamily) throws {
      for ipProtocol in [IPProtocol.udp, nil] {
        for choice in [PortlessFragments.auto, .match, .drop] {
          let pair = try Pair()
          Self.set(pair.a, choice)
          try Self.add(pair.a, .out, Self.selector(family, ports: true, ipProtocol: ipProtocol), priority: 1)
          let packets = Self.pieces(family) + [Self.short(family)]
          let outcome = pair.a.receive(packets)
          if choice == .match {
            #expect(outcome.sent == packets.map { Packets.forwarded($0, hops: 1) })
          } else {
            #expect(outcome.sent == [] && outcome.drops == [.fragmentWithoutPorts: 3])
          }
          let hosts = Pair.hosts(family)
          // Whole ones of other ports, and other protocols' pieces, leave.
          let others = [
            Packets.udp(from: hosts.0, to: hosts.1, payload: [1], ports: (1000, 3000)),
            Packets.ip(from: hosts.0, to: hosts.1, number: IPProtocol.gre, payload: [UInt8](repeating: 0, count: 99)),
          ]
          let whole = pair.a.receive([others[0], Packets.cut(others[1], payload: 48)[0]])
          #expect(whole.sent.count == 2 && whole.drops == [:])
        }
      }
    }

    /// The first policy without ports takes them where none with ports comes before it.
    @Test func rankDecides() throws {
      for (ported, portless, passes) in [(UInt32(1), UInt32(2), false), (2, 1, true)] {
        let pair = try Pair()
        try Self.add(pair.a, .out, Self.selector(.v4, ports: true), .deny, priority: ported)
        try Self.add(pair.a, .out, Self.selector(.v4, ports: false), .bypass, priority: portless)
        let outcome = pair.a.receive(Self.pieces(.v4))
        #expect(outcome.sent.count == (passes ? 2 : 0))
        #expect(outcome.drops == (passes ? [:] : [.fragmentWithoutPorts: 2]))
      }
    }

    /// Inbound too, from outside in clear and out of a tunnel.
    @Test func piecesDoNotComeInInClear() throws {
      for choice in [PortlessFragments.auto, .match] {
        let pair = try Pair()
        Self.set(pair.b, choice)
        try Self.add(pair.b, .in, Self.selector(.v4, ports: true), priority: 1)
        let outcome = pair.b.receive(Self.pieces(.v4))
        #expect(outcome.sent.count == (choice == .auto ? 0 : 2))
        #expect(outcome.drops == (choice == .auto ? [.fragmentWithoutPorts: 2] : [:]))
      }
      let pair = try Pair()
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16), requestID: 1)], for: Pair.subnets(.v4))
      try Self.add(pair.b, .in, Self.selector(.v4, ports: true), priority: 1, requestID: 2)
      let sealed = pair.a.receive(Self.pieces(.v4)).sent
      #expect(sealed.count == 2 && pair.b.receive(sealed).drops == [.fragmentWithoutPorts: 2])
    }

    /// Later pieces of a datagram whose ports stand behind more headers say another protocol than the first one.
    @Test func laterPiecesHideTheProtocol() throws {
      let hosts = Pair.host6
      let udp = Array(Packets.udp(from: hosts.0, to: hosts.1, payload: [UInt8](repeating: 4, count: 600))[40...])
      let options: [UInt8] = [IPProtocol.udp, 0, 1, 4, 0, 0, 0, 0]
      let packet = Packets.ip(from: hosts.0, to: hosts.1, number: IPProtocol.destinationOptions, payload: options + udp)
      let pieces = Packets.cut(packet, payload: 304)
      for ports in [true, false] {
        for choice in [PortlessFragments.auto, .drop] {
          let pair = try Pair()
          Self.set(pair.a, choice)
          var selector = Self.selector(.v6, ports: ports)
          selector.ipProtocol = IPProtocol.udp
          try Self.add(pair.a, .out, selector, .deny, priority: 1)
          let outcome = pair.a.receive(pieces)
          // But for what the sender is told.
          #expect(outcome.sent.allSatisfy { $0[6] == IPProtocol.icmpv6 })
          let isNamed = !ports && choice == .auto
          #expect(
            outcome.drops == (isNamed ? [.policyDenyOut: 1, .fragmentWithoutPorts: 2] : [.fragmentWithoutPorts: 3]))
        }
      }
    }

    /// What is for the gateway itself, of whatever protocol, meets its policies whole.
    @Test func whatIsForTheGatewayIsLookedUpWhole() throws {
      for number in [IPProtocol.udp, IPProtocol.tcp, IPProtocol.icmp] {
        for choice in [PortlessFragments.auto, .match, .drop] {
          let pair = try Pair()
          Self.set(pair.b, choice)
          var selector = Pair.endpoints(.v4, ipProtocol: number)
          (selector.sourcePorts, selector.destinationPorts) = (8...8, 0...0)
          if number != IPProtocol.icmp {
            (selector.sourcePorts, selector.destinationPorts) = (Selector.anyPort, 179...179)
          }
          try Self.add(pair.b, .in, selector, priority: 1)
          func packet(_ start: [UInt8]) -> [UInt8] {
            Packets.ip(
              from: Pair.wan4.0, to: Pair.wan4.1, number: number, payload: start + [UInt8](repeating: 0, count: 600))
          }
          let isICMP = number == IPProtocol.icmp
          let named = pair.b.receive(Packets.cut(packet(isICMP ? [8, 0, 0, 0] : [0, 9, 0, 179]), payload: 304))
          #expect(named.host == [] && named.drops == [.policyInClear: 1])
          let other = packet(isICMP ? [0, 0, 0, 0] : [0, 9, 0, 180])
          let outcome = pair.b.receive(Packets.cut(other, payload: 304))
          #expect(outcome.host == [other] && outcome.drops == [:])
        }
      }
    }

    /// What the gateway's own kernel cut is looked up whole, by the policy for its ports; the key daemon's IKE goes by none.
    @Test(arguments: [AddressFamily.v4, .v6]) func whatTheKernelCutIsLookedUpWhole(_ family: AddressFamily) throws {
      for choice in [PortlessFragments.auto, .match, .drop] {
        for isPortless in [false, true] {
          let pair = try Pair(mtu: 1500)
          Self.set(pair.a, choice)
          var selector = Pair.endpoints(family, ipProtocol: isPortless ? nil : IPProtocol.udp)
          if !isPortless { selector.destinationPorts = 2000...2000 }
          try pair.add([Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16))], for: selector)
          let wan = Pair.wan(family)
          func datagram(_ ports: (UInt16, UInt16)) -> [UInt8] {
            Packets.udp(from: wan.0, to: wan.1, payload: [UInt8](repeating: 4, count: 2700), ports: ports)
          }
          let key = datagram((500, 500))
          let pieces = Packets.cut(key, payload: 1440)
          let clear = pair.a.sendFromHost(frames: pieces.map { TestGateway.frame($0) }, kind: .fromKeyDaemon)
          #expect(clear.sent.count == 2 && clear.drops == [:])
          #expect(clear.sent.allSatisfy { $0.count <= 1500 })
          #expect(pair.b.receive(clear.sent).host == [key])
          let packet = datagram((1000, 2000))
          let sealed = pair.a.sendFromHost(Packets.cut(packet, payload: 1440))
          #expect(sealed.drops == [:])
          let opened = pair.b.receive(sealed.sent)
          #expect(opened.host == [packet] && opened.drops == [:])
        }
      }
    }
  }
}
