import ControlAPITesting
import IPsec
import Testing
import Wire

@testable import ControlAPI

@Suite struct DaemonNameTests {
  @Test func identities() {
    #expect(Identity(daemon: "198.51.100.1") == Identity(kind: .prefix, text: "198.51.100.1/32"))
    #expect(Identity(daemon: "2001:db8::1") == Identity(kind: .prefix, text: "2001:db8::1/128"))
    #expect(Identity(daemon: "gw1.example") == Identity(kind: .fqdn, text: "gw1.example"))
    #expect(Identity(daemon: "op@example.org") == Identity(kind: .ufqdn, text: "op@example.org"))
    #expect(Identity(daemon: "C=CO, CN=op@example.org") == Identity(kind: .asn1DN, text: "C=CO, CN=op@example.org"))
    #expect(Identity(daemon: "%any") == nil)
  }

  @Test func bothDirectionsAreCompleted() throws {
    let (here, there) = (try #require(IPAddress("192.0.2.1")), try #require(IPAddress("192.0.2.2")))
    var name = DaemonName(saProtocol: .esp, peer: there, requestID: 7, connection: "gw", child: "net")
    name.localIdentity = Identity(kind: .fqdn, text: "gw1.example")
    name.remoteIdentity = Identity(kind: .fqdn, text: "gw2.example")
    name.remoteAuthentication = "rsa"
    name.selector = Selector(
      source: try #require(IPPrefix("10.0.0.0/24")), destination: try #require(IPPrefix("10.1.0.0/24")))
    var out = SAParameters(spi: 1000, source: here, destination: there, owner: .xfrm(1))
    var back = SAParameters(spi: 1001, source: there, destination: here, owner: .xfrm(1))
    let other = SAParameters(spi: 1002, source: here, destination: there, owner: .xfrm(1))
    out.requestID = 7
    back.requestID = 7
    let (records, authentications) = [name].complete(
      [out, back, other].map { SARecord(parameters: $0, state: .mature) })
    #expect(records[0].parameters.sourceIdentity?.text == "gw1.example")
    #expect(records[0].parameters.selector == name.selector && records[0].parameters.direction == .out)
    #expect(records[1].parameters.sourceIdentity?.text == "gw2.example")
    #expect(records[1].parameters.selector == name.selector?.mirrored && records[1].parameters.direction == .in)
    #expect(records[2].parameters.sourceIdentity == nil)
    #expect(authentications == [out.identifier: "rsa", back.identifier: "rsa"])
  }
}
