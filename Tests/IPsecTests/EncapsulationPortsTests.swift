import Testing

@testable import IPsec

/// Which local UDP ports inbound SAs have, besides 4500.
@Suite struct EncapsulationPortsTests {
  @Test func portsAreCounted() {
    var ports = EncapsulationPorts()
    #expect(!ports.note(1, 4500) && !ports.note(2, nil) && ports.all.isEmpty)
    #expect(ports.note(3, 4510) && !ports.note(4, 4510) && !ports.note(3, 4510) && ports.all == [4510])
    #expect(ports.note(3, 4511) && ports.all == [4510, 4511])
    #expect(ports.note(4, 4500) && ports.all == [4511])
    #expect(!ports.note(4, nil) && ports.note(3, nil) && !ports.note(3, nil) && ports.all.isEmpty)
  }

  /// There IKE has no marker that tells it from ESP.
  @Test func port500IsNone() {
    var ports = EncapsulationPorts()
    #expect(!ports.note(1, 500) && !ports.note(2, 0) && ports.all.isEmpty)
  }
}
