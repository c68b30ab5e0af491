import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// ESP in UDP that comes from elsewhere than expected is taken, and reported once (RFC 3948).
  @Suite struct PeerMoveTests {
    @Test(arguments: [AddressFamily.v4, .v6]) func movedPeersAreReported(family: AddressFamily) throws {
      let pair = try Pair()
      let old = family == .v4 ? "198.51.100.7" : "2001:db8:ffff::7"
      var sa = Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16))
      sa.encapsulation = UDPEncapsulation(sourcePort: 40_000, destinationPort: 4500)
      try pair.add([sa], for: Pair.subnets(.v4))
      let id = sa.identifier
      try pair.b.security.delete(id, origin: 0)
      sa.source = try #require(IPAddress(old))
      sa.encapsulation?.sourcePort = 4500
      try pair.b.security.add(sa, origin: 0)
      for round in 0..<2 {
        let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [1, 2, 3])
        let sealed = pair.a.receive([packet]).sent
        #expect(sealed.count == 1)
        _ = pair.b.receive(sealed)
        let event = pair.b.worker.pointee.events.pop()
        guard round == 0 else {
          #expect(event == nil)
          continue
        }
        let report = try #require(event)
        #expect(report.kind == .mapping && report.key.source_port == 40_000)
        #expect(report.peer == Pair.ends(family).0)
      }
    }
  }
}
