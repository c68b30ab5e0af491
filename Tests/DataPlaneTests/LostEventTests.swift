import CDPDK
import DPDK
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// A full ring of events loses none for good: what was not heard is said again.
  @Suite(.serialized) struct LostEventTests {
    private static let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [1, 2, 3])

    /// Two gateways with a tunnel and no room for events on the sender's.
    private static func limited(_ limit: (inout SAParameters) -> Void) throws -> (Pair, SAParameters) {
      let pair = try Pair()
      var sa = Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))
      limit(&sa)
      try pair.add([sa], for: Pair.subnets(.v4))
      fill(pair.a)
      return (pair, sa)
    }

    private static func fill(_ gateway: TestGateway) {
      while gateway.worker.pointee.events.push(Event(.pathMTU, number: 0)) {}
    }

    private static func drain(_ gateway: TestGateway) -> [Event] {
      var events: [Event] = []
      while let event = gateway.worker.pointee.events.pop() { events.append(event) }
      return events
    }

    @Test func anAcquireIsAskedAgain() throws {
      let pair = try Pair()
      var policy = PolicyParameters(
        direction: .out, selector: Pair.subnets(.v4),
        templates: [SATemplate(source: Pair.ends(.v4).0, destination: Pair.ends(.v4).1)])
      policy.priority = 1000
      _ = try pair.a.security.add(policy, replacing: false, origin: 0)
      Self.fill(pair.a)
      _ = pair.a.receive([Self.packet])
      #expect(Self.drain(pair.a).allSatisfy { $0.kind == .pathMTU })
      #expect(pair.a.worker.pointee.events.dropped > 1)
      _ = pair.a.receive([Self.packet, Self.packet])
      #expect(Self.drain(pair.a).map(\.kind) == [.acquire])
      var waiting: Mbuf?
      let ring = try #require(TestEAL.shared.get().host.waiting)
      while ring.dequeue(&waiting, 1) == 1 { cdpdk_free(waiting) }
    }

    @Test func aSoftLimitIsReportedAgain() throws {
      let (pair, _) = try Self.limited { $0.soft.packets = 1 }
      #expect(pair.a.receive([Self.packet, Self.packet]).sent.count == 2)
      _ = Self.drain(pair.a)
      #expect(pair.a.receive([Self.packet]).sent.count == 1)
      #expect(Self.drain(pair.a).map(\.kind) == [.softLimit])
      #expect(pair.a.receive([Self.packet]).sent.count == 1)
      #expect(Self.drain(pair.a).isEmpty)
    }

    @Test func whatHasStoppedIsFound() throws {
      let (pair, sa) = try Self.limited { $0.hard.packets = 1 }
      _ = pair.a.receive([Self.packet])
      #expect(pair.a.receive([Self.packet]).sent.isEmpty && pair.a.security.saCount() == 1)
      var expired: [SAIdentifier] = []
      let token = pair.a.security.subscribe { event, _ in
        if case .saExpired(let record, hard: true) = event { expired.append(record.parameters.identifier) }
      }
      pair.a.security.expireStopped()
      pair.a.security.unsubscribe(token)
      #expect(expired == [sa.identifier] && pair.a.security.saCount() == 0)
    }
  }
}
