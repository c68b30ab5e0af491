import IPsec
import Routing
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// What goes by no policy (`PolicyExemptions`), with policies that protect or deny everything.
  @Suite(.serialized) struct ExemptionTests {
    private static let own = "2001:db8:ffff::1"
    private static let neighbor = "2001:db8:ffff::2"
    private static let link = ("fe80::1", "fe80::2")
    private static let lanHost = "2001:db8:a::9"

    private static func gateway(_ type: PolicyType = .require) throws -> TestGateway {
      let gateway = try TestGateway(
        own: ["198.51.100.1/24", "\(own)/64", "\(link.0)/64"],
        far: [("10.2.0.0/16", "198.51.100.2"), ("2001:db8:b::/48", neighbor)], neighbors: [neighbor],
        lan: (["10.1.0.1/16", "2001:db8:a::1/48"], ["10.1.0.9", lanHost]))
      for direction in [PolicyDirection.in, .out] {
        for any in ["0.0.0.0/0", "::/0"] {
          let ends = Pair.ends(IPPrefix(any)!.family)
          let isOut = direction == .out
          let templates = [SATemplate(source: isOut ? ends.0 : ends.1, destination: isOut ? ends.1 : ends.0)]
          let policy = PolicyParameters(
            direction: direction, selector: Selector(source: IPPrefix(any)!, destination: IPPrefix(any)!), type: type,
            templates: type == .deny ? [] : templates)
          _ = try gateway.security.add(policy, replacing: false, origin: 0)
        }
      }
      return gateway
    }

    private static func discovery(
      from source: String = neighbor, to destination: String = own, type: UInt8 = 135, hops: UInt8 = 255
    ) -> [UInt8] {
      var packet = Packets.ip(
        from: source, to: destination, number: 58, payload: [type, 0, 0, 0] + Array("smuggled plaintext".utf8))
      packet[7] = hops
      return packet
    }

    @Test func discoveryFromANeighborReachesTheGateway() throws {
      for type in [PolicyType.require, .deny] {
        let gateway = try Self.gateway(type)
        for (source, destination) in [
          (Self.neighbor, Self.own), (Self.link.1, Self.link.0), (Self.link.1, "ff02::1"), ("::", "ff02::1:ff00:1"),
        ] {
          for number in UInt8(133)...137 {
            let outcome = gateway.receive([Self.discovery(from: source, to: destination, type: number)])
            #expect(
              outcome.host.count == 1 && outcome.sent.isEmpty && outcome.drops.isEmpty, "\(source) \(destination)")
          }
        }
        // Neither of the same flow nor any other, if a router forwarded it.
        for hops in [UInt8(254), 1, 64] {
          #expect(gateway.receive([Self.discovery(hops: hops)]).drops == [.neighborDiscovery: 1])
        }
        #expect(gateway.receive([Self.discovery()]).host.count == 1)
        // What is no neighbour discovery has its policy.
        #expect(gateway.receive([Self.discovery(type: 128)]).host.isEmpty)
        #expect(gateway.receive([Self.discovery(type: 138)]).host.isEmpty)
      }
    }

    @Test func discoveryIsNotForwarded() throws {
      let policed = try Self.gateway()
      let open = try TestGateway(
        own: ["\(Self.own)/64"], far: [("2001:db8:b::/48", Self.neighbor)], neighbors: [Self.neighbor],
        lan: (["2001:db8:a::1/48"], [Self.lanHost]))
      for gateway in [policed, open] {
        for number in UInt8(133)...137 {
          let out = gateway.receive(
            [Self.discovery(from: Self.lanHost, to: "2001:db8:b::9", type: number)], port: 1)
          #expect(out.sent.isEmpty && out.host.isEmpty && out.drops == [.neighborDiscovery: 1])
          let back = gateway.receive([Self.discovery(from: "2001:db8:b::9", to: Self.lanHost, type: number)])
          #expect(back.sent.isEmpty && back.host.isEmpty && back.drops == [.neighborDiscovery: 1])
        }
        #expect(gateway.receive([Self.discovery(to: "ff0e::1")]).drops == [.neighborDiscovery: 1])
      }
    }

    /// A tunnel is no link: its other end could redirect the gateway's kernel.
    @Test func discoveryDoesNotComeOutOfATunnel() throws {
      let pair = try Pair()
      try pair.add(
        [Pair.sa(.esp, .tunnel, .v6, transform: .esp(.aesGCM16))],
        for: Selector(source: IPPrefix("2001:db8::/32")!, destination: IPPrefix("2001:db8::/32")!))
      for destination in [Pair.host6.1, "2001:db8:b::1"] {
        var packet = Self.discovery(from: Pair.host6.0, to: destination, type: 137)
        // As a's kernel would send it: a router in between drops it.
        let sealed = pair.a.sendFromHost([packet]).sent
        #expect(sealed.count == 1)
        #expect(pair.b.receive(sealed).drops == [.neighborDiscovery: 1])
        packet[40] = 128
        #expect(pair.b.receive(pair.a.sendFromHost([packet]).sent).drops.isEmpty)
      }
    }

    @Test func theKernelsOwnDiscoveryLeaves() throws {
      let gateway = try Self.gateway()
      for (source, destination) in [
        (Self.own, Self.neighbor), (Self.link.0, Self.link.1), (Self.own, "ff02::1:ff00:2"), (Self.link.0, "ff02::1"),
      ] {
        let packet = Self.discovery(from: source, to: destination)
        #expect(gateway.sendFromHost([packet]).sent == [packet], "\(destination)")
        let other = gateway.sendFromHost([Self.discovery(from: source, to: destination, hops: 64)])
        #expect(other.sent.isEmpty, "\(destination)")
      }
      // Not to those that are no neighbours, nor to groups that are forwarded.
      for destination in ["2001:db8:b::9", "ff0e::1", "ff05::2"] {
        #expect(gateway.sendFromHost([Self.discovery(from: Self.own, to: destination)]).sent.isEmpty, "\(destination)")
      }
      TestGateway.forgetWaiting()
    }

    private static func ike(from port: UInt16, to: UInt16 = 500, isIn: Bool = false, count: Int = 40) -> [UInt8] {
      Packets.udp(
        from: isIn ? "198.51.100.2" : "198.51.100.1", to: isIn ? "198.51.100.1" : "198.51.100.2",
        payload: Array(repeating: 0, count: count), ports: (port, to))
    }

    /// The port alone is anybody's.
    @Test func theHostsIKEIsTheDaemons() throws {
      let gateway = try Self.gateway(.deny)
      for port: UInt16 in [500, 4500, 1024] {
        let packet = Self.ike(from: port)
        #expect(gateway.sendFromHost([packet]).drops == [.policyDenyOut: 1])
        #expect(gateway.sendFromHost(frames: [TestGateway.frame(packet)], kind: .fromKeyDaemon).sent == [packet])
        // The flow cache has learned nothing of it.
        #expect(gateway.sendFromHost([packet]).drops == [.policyDenyOut: 1])
      }
      // Pieces, which show no ports, and where those are dropped.
      PortlessTests.set(gateway, .drop)
      var piece = Self.ike(from: 500, count: 1400)
      piece[6] = 0x20
      let whole = Packets.summed(piece)
      #expect(gateway.sendFromHost(frames: [TestGateway.frame(whole)], kind: .fromKeyDaemon).sent == [whole])
      #expect(gateway.sendFromHost([whole]).sent.isEmpty)
    }

    @Test func itsPeersReachItByItsPorts() throws {
      let gateway = try Self.gateway()
      let shared = gateway.worker.pointee.shared
      for port: UInt16 in [500, 4500] {
        #expect(gateway.receive([Self.ike(from: 9, to: port, isIn: true)]).host.count == 1)
      }
      #expect(gateway.receive([Self.ike(from: 500, to: 1500, isIn: true)]).drops == [.policyInClear: 1])
      shared.pointee.ikePorts.set([1500])
      shared.pointee.encapsulationPorts.set([4510])
      gateway.worker.pointee.routing &+= 1
      for port: UInt16 in [1500, 4510] {
        #expect(gateway.receive([Self.ike(from: 500, to: port, isIn: true)]).host.count == 1)
      }
      #expect(gateway.receive([Self.ike(from: 500, to: 1501, isIn: true)]).drops == [.policyInClear: 1])
    }

    /// A tunnel in UDP whose end here has another port than 4500.
    @Test(arguments: [AddressFamily.v4, .v6]) func espInUDPComesToOtherPorts(_ family: AddressFamily) throws {
      let pair = try Pair()
      var told: [Set<UInt16>] = []
      pair.b.security.onEncapsulationPorts = { told.append($0) }
      var sa = Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16))
      sa.encapsulation = UDPEncapsulation(sourcePort: 4500, destinationPort: 4510)
      try pair.add([sa], for: Pair.subnets(family))
      #expect(told == [[4510]] && pair.b.security.encapsulationPorts == [4510])
      #expect(pair.a.security.encapsulationPorts.isEmpty)
      let hosts = Pair.hosts(family)
      let clear = Packets.udp(from: hosts.0, to: hosts.1, payload: [1, 2, 3])
      let sealed = pair.a.receive([clear]).sent
      #expect(sealed.count == 1)
      // Until it is told, it is a datagram of the host's.
      #expect(pair.b.receive(sealed).host.count == 1)
      pair.b.worker.pointee.shared.pointee.encapsulationPorts.set([4510])
      pair.b.worker.pointee.hasEncapsulationPorts = true
      #expect(pair.b.receive(pair.a.receive([clear]).sent).sent == [Packets.forwarded(clear, hops: 2)])
      // A keepalive, IKE behind its marker, and other ports.
      let wan = Pair.wan(family)
      func datagram(_ payload: [UInt8], to port: UInt16) -> TestGateway.Outcome {
        pair.b.receive([Packets.udp(from: wan.0, to: wan.1, payload: payload, ports: (4500, port))])
      }
      #expect(datagram([0xff], to: 4510).drops == [.natKeepalive: 1])
      #expect(datagram([0, 0, 0, 0, 1, 2, 3, 4, 5, 6], to: 4510).host.count == 1)
      // No marker, and less than ESP's header: nothing that the daemon is to see.
      #expect(datagram([0, 0, 0, 9], to: 4510).drops == [.espTooShort: 1])
      #expect(datagram([9, 0, 0, 0, 1, 2, 3], to: 4510).drops == [.espTooShort: 1])
      #expect(datagram([0, 0, 0, 0], to: 4510).host.count == 1)
      #expect(datagram([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], to: 4511).host.count == 1)
      try pair.b.security.delete(sa.identifier, origin: 0)
      #expect(told == [[4510], []])
    }
  }
}
