import IPsec
import Routing
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Which sources a port takes, by the way back to them.
  @Suite(.serialized) struct SourceCheckTests {
    private static let own = ("198.51.100.2", "2001:db8:ffff::2")
    private static let near = ("10.2.0.9", "2001:db8:b::9")
    private static let outside = ("203.0.113.9", "2001:db8:9999::9")

    /// Two ports. The network behind the second is protected towards 10.1.0.0/16 and 2001:db8:a::/48.
    private static func gateway(hasDefault: Bool = true) throws -> TestGateway {
      let defaults = hasDefault ? [("0.0.0.0/0", "198.51.100.254"), ("::/0", "2001:db8:ffff::fe")] : []
      let gateway = try TestGateway(
        own: ["\(own.0)/24", "\(own.1)/64"], far: defaults, neighbors: [],
        lan: (["10.2.0.1/16", "2001:db8:b::1/48"], [near.0, near.1]))
      for family in [AddressFamily.v4, .v6] { try gateway.add(policy(family, .require)) }
      return gateway
    }

    private static func policy(_ family: AddressFamily, _ type: PolicyType) -> PolicyParameters {
      let ends = Pair.ends(family)
      let template = SATemplate(source: ends.1, destination: ends.0)
      return PolicyParameters(
        direction: .out, selector: Pair.subnets(family).mirrored, type: type,
        templates: type == .bypass || type == .deny ? [] : [template])
    }

    private static func choose(_ choices: [SourceCheck], _ gateway: TestGateway) {
      _ = gateway.worker.pointee.shared.pointee.sourceChecks.set(choices)
      gateway.worker.pointee.routing &+= 1
    }

    /// Nil: it was let in, and went on.
    private static func refusal(
      _ gateway: TestGateway, _ port: Int, _ source: String, _ destination: String, ports: (UInt16, UInt16) = (7, 7)
    ) -> DropReason? {
      let packet = Packets.udp(from: source, to: destination, payload: [1, 2, 3], ports: ports)
      let outcome = gateway.receive([packet, packet], port: port)
      #expect(outcome.sent.count + outcome.host.count + outcome.drops.values.reduce(0) { $0 + Int($1) } == 2)
      return outcome.drops.first?.key
    }

    @Test func protectedSourcesComeByTheirPort() throws {
      let gateway = try Self.gateway()
      for (near, own, outside) in [
        (Self.near.0, Self.own.0, Self.outside.0), (Self.near.1, Self.own.1, Self.outside.1),
      ] {
        // In turn: what was decided for one port is not taken for the other.
        for _ in 0..<2 {
          #expect(Self.refusal(gateway, 0, near, own) == .sourceCheck)
          #expect(Self.refusal(gateway, 1, near, own) == nil)
          #expect(Self.refusal(gateway, 1, near, outside) == nil)
          #expect(Self.refusal(gateway, 0, near, outside) == .sourceCheck)
          #expect(Self.refusal(gateway, 0, outside, near) == nil)
          // By another port than the way back, which only the strict choice minds.
          #expect(Self.refusal(gateway, 1, outside, own) == nil)
        }
      }
    }

    @Test func thePolicysTypeDecides() throws {
      for (type, protects) in [
        (PolicyType.use, true), (.acquire, true), (.dontacq, true), (.bypass, false), (.deny, false),
      ] {
        let gateway = try Self.gateway()
        gateway.security.flushPolicies(owner: nil, origin: 0)
        #expect(Self.refusal(gateway, 0, Self.near.0, Self.own.0) == nil, "\(type)")
        try gateway.add(Self.policy(.v4, type))
        #expect(Self.refusal(gateway, 0, Self.near.0, Self.own.0) == (protects ? .sourceCheck : nil), "\(type)")
        #expect(Self.refusal(gateway, 0, Self.near.1, Self.own.1) == nil, "\(type)")
      }
    }

    @Test func choices() throws {
      for (family, near, own, outside) in [
        (0, Self.near.0, Self.own.0, Self.outside.0), (1, Self.near.1, Self.own.1, Self.outside.1),
      ] {
        let gateway = try Self.gateway()
        let (lone, peer) = (try Self.gateway(hasDefault: false), family == 0 ? "198.51.100.1" : "2001:db8:ffff::1")
        for choice in SourceCheck.allCases {
          Self.choose([choice, choice], gateway)
          Self.choose([choice, choice], lone)
          let comment: Comment = "\(choice) \(near)"
          let wrongPort: DropReason? = choice == .strict || choice == .auto ? .sourceCheck : nil
          #expect(Self.refusal(gateway, 0, near, own) == wrongPort, comment)
          #expect(Self.refusal(gateway, 1, outside, own) == (choice == .strict ? .sourceCheck : nil), comment)
          #expect(Self.refusal(gateway, 0, outside, own) == nil, comment)
          #expect(Self.refusal(gateway, 0, own, near) == (choice == .off ? nil : .martianSource), comment)
          #expect(Self.refusal(lone, 0, outside, own) == (choice == .off ? nil : .sourceCheck), comment)
          #expect(Self.refusal(lone, 0, peer, own) == nil, comment)
        }
        // Each port has its own.
        Self.choose([.off, .strict], gateway)
        #expect(Self.refusal(gateway, 0, near, own) == nil)
        #expect(Self.refusal(gateway, 1, outside, own) == .sourceCheck)
      }
    }

    @Test func waysThatLeadNowhereAreNone() throws {
      let gateway = try Self.gateway()
      for (prefix, target) in [
        ("192.0.2.0/26", RouteTarget.blackhole), ("192.0.2.64/26", .unreachable), ("192.0.2.128/26", .prohibit),
      ] {
        try gateway.routing.add(Route(IPPrefix(prefix)!, target))
      }
      for source in ["192.0.2.1", "192.0.2.65", "192.0.2.129"] {
        #expect(Self.refusal(gateway, 0, source, Self.own.0) == .sourceCheck)
      }
      #expect(Self.refusal(gateway, 1, "10.2.255.255", Self.own.0) == .martianSource)
      #expect(Self.refusal(gateway, 0, "192.0.2.193", Self.own.0) == nil)
    }

    /// Hosts that have no address or no route yet, and what is of the link alone.
    @Test func whatComesBeforeRoutes() throws {
      let gateway = try Self.gateway(hasDefault: false)
      for choice in [SourceCheck.auto, .loose, .strict] {
        Self.choose([choice, choice], gateway)
        #expect(Self.refusal(gateway, 0, "0.0.0.0", "255.255.255.255", ports: (68, 67)) == nil)
        let server = Self.refusal(gateway, 0, "192.168.7.1", "255.255.255.255", ports: (67, 68))
        #expect(server == (choice == .strict ? .sourceCheck : nil))
        #expect(Self.refusal(gateway, 0, "fe80::7", Self.own.1) == nil)
        #expect(Self.refusal(gateway, 0, "fe80::7", "ff02::5") == nil)
        // Somebody else has the address too.
        var advertisement = Packets.ip(
          from: Self.own.1, to: "ff02::1", number: 58, payload: [136, 0] + [UInt8](repeating: 1, count: 22))
        // RFC 4861 7.1.2.
        advertisement[7] = 255
        #expect(gateway.receive([advertisement]).host == [advertisement])
      }
      // A protected source does not come by the wrong port in a broadcast either.
      Self.choose([.auto, .auto], gateway)
      #expect(Self.refusal(gateway, 0, Self.near.0, "255.255.255.255") == .sourceCheck)
    }

    /// Before they are put together: who may not send does not fill the memory for fragments.
    @Test func fragmentsAreCheckedOneByOne() throws {
      let gateway = try Self.gateway()
      let used = TestGateway.buffersInUse
      for (near, own) in [(Self.near.0, Self.own.0), (Self.near.1, Self.own.1)] {
        let whole = Packets.udp(from: near, to: own, payload: Array(0..<99))
        let pieces = Packets.cut(whole, payload: 64, identification: 7)
        #expect(gateway.receive([pieces[0]], port: 0).drops == [.sourceCheck: 1])
        #expect(gateway.receive(pieces, port: 0).drops == [.sourceCheck: 2])
        #expect(TestGateway.buffersInUse == used)
        #expect(gateway.receive(pieces, port: 1).host.map(\.count) == [whole.count])
      }
    }

    @Test func oneArm() throws {
      let gateway = try TestGateway(
        own: ["198.51.100.2/24", "10.2.0.1/16"], far: [("0.0.0.0/0", "198.51.100.254")], neighbors: [Self.near.0])
      try gateway.add(Self.policy(.v4, .use))
      #expect(Self.refusal(gateway, 0, Self.near.0, Self.outside.0) == nil)
      #expect(Self.refusal(gateway, 0, Self.outside.0, Self.near.0) == nil)
      #expect(Self.refusal(gateway, 0, Self.near.0, Self.own.0) == nil)
    }

    @Test func eachPortHasItsChoice() {
      let checks = SourceChecks()
      let before = (0..<64).map { checks[$0] }
      #expect(before.allSatisfy { $0 == .auto })
      let choices = (0..<64).map { SourceCheck(rawValue: UInt8($0 * 7 % 4))! }
      let changes = (checks.set(choices), checks.set(choices))
      #expect(changes == (true, false))
      let after = (0..<64).map { checks[$0] }
      #expect(after == choices)
    }
  }
}
