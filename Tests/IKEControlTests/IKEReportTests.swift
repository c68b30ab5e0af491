import Testing

@testable import IKEControl

@Suite struct IKEReportTests {
  /// What iked 7.2 printed on a run of the lab.
  private static let listing = """
    iked_sas: 0x5630aec64e30 rspi 0x26f832d09b153b8c ispi 0x35546f4c8f025944 202.245.63.218:500->200.69.110.71:4500\
    <IPV4/200.69.110.71>[] ESTABLISHED i nexti (nil) pol 0x5630aec669a0
      sa_childsas: 0x5630aecaa050 ESP 0x5983a3b5 out 202.245.63.218:500 -> 200.69.110.71:500 (L) B=(nil) \
    P=0x5630aecaa100 @0x5630aec64e30
      sa_childsas: 0x5630aecaa100 ESP 0x668ae45c in 200.69.110.71:500 -> 202.245.63.218:500 (LA) B=(nil) \
    P=0x5630aecaa050 @0x5630aec64e30
      sa_flows: 0x5630aeca9e10 ESP out 172.20.1.0/24 -> 192.168.60.0/24 [0]@-1 (L) @0x5630aec64e30
      sa_flows: 0x5630aeca9990 ESP out 192.168.60.0/24 -> 172.20.1.0/24 [0]@-1 (L) @0x5630aec64e30
      sa_flows: 0x5630aeca9bd0 ESP in 172.20.1.0/24 -> 192.168.60.0/24 [0]@-1 (L) @0x5630aec64e30
    iked_activesas: 0x5630aecaa050 ESP 0x5983a3b5 out 202.245.63.218:500 -> 200.69.110.71:500 (L) B=(nil)
    iked_dstid_sas: 0x5630aec64e30 rspi 0x26f832d09b153b8c ispi 0x35546f4c8f025944

    """

  @Test func iked() throws {
    let sa = try #require(IKEReport.sas(ofListing: Self.listing).first)
    #expect(sa.state == "ESTABLISHED" && sa.isInitiator && sa.initiatorSPI == "35546f4c8f025944")
    #expect(sa.localHost == "202.245.63.218" && sa.remotePort == 4500 && sa.remoteID == "IPV4/200.69.110.71")
    #expect(sa.children.count == 1)
    let child = sa.children[0]
    #expect(child.name == "from-192.168.60.0/24-to-172.20.1.0/24")
    #expect(child.spiIn == "668ae45c" && child.spiOut == "5983a3b5" && child.saProtocol == "esp")
  }

  @Test(arguments: ["", "iked_sas:", "iked_sas: a b c d e f", "sa_childsas: x ESP 0x1 in a -> b (L) P=y", "\n\n x y z"])
  func strangeListings(_ text: String) { #expect(IKEReport.sas(ofListing: text).isEmpty) }

  @Test func listingsCutAnywhere() {
    let bytes = Array(Self.listing.utf8)
    for count in bytes.indices { _ = IKEReport.sas(ofListing: String(decoding: bytes[..<count], as: UTF8.self)) }
  }

  @Test func charon() throws {
    let charon = try FakeCharon(answer: { command, _ in
      let success = VICIPacket.response(VICISection())
      switch command {
      case "version": return [.response(VICISection(["daemon": "charon-systemd", "version": "5.9.8"]))]
      case "list-sas":
        var child = VICISection([
          "name": "net", "uniqueid": "3", "reqid": "1", "state": "INSTALLED", "mode": "TUNNEL", "protocol": "ESP",
          "encap": "yes", "spi-in": "c0000001", "spi-out": "c0000002", "encr-alg": "AES_GCM_16", "encr-keysize": "128",
          "esn": "1", "bytes-in": "840", "packets-in": "10", "rekey-time": "3000", "life-time": "3600",
        ])
        child.set("local-ts", list: ["10.0.0.0/8"])
        var children = VICISection()
        children.set("net-3", section: child)
        var sa = VICISection([
          "uniqueid": "1", "version": "2", "state": "ESTABLISHED", "local-host": "192.0.2.1", "local-port": "4500",
          "local-id": "a.example", "remote-host": "192.0.2.2", "remote-port": "4500", "initiator": "yes",
          "nat-remote": "yes", "encr-alg": "AES_CBC", "encr-keysize": "256", "established": "7300",
        ])
        sa.set("child-sas", section: children)
        var answer = VICISection()
        answer.set("peer-192.0.2.2", section: sa)
        return [.event("list-sa", answer), success]
      default: return [success]
      }
    })
    defer { charon.stop() }
    let text = try IKEReport(charon: try VICIConnection(path: charon.path)).text
    for part in [
      "charon 5.9.8, ", "peer-192.0.2.2 #1 ESTABLISHED IKEv2, initiator", "NAT: remote",
      "192.0.2.1[4500] a.example to 192.0.2.2[4500]", "established 2 h 1 min ago",
      "child net #3 INSTALLED esp tunnel in UDP, reqid 1", "AES_GCM_16-128 ESN", "in 10 packets, 840 bytes",
      "rekey in 50 min, expires in 60 min",
    ] {
      #expect(text.contains(part), "\(part) is not in\n\(text)")
    }
  }
}
