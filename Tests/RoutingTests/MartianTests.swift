import Testing
import Wire

@testable import Routing

/// RFC 1812 5.3.7, RFC 6890, RFC 4291.
@Suite struct MartianTests {
  @Test(arguments: [
    "0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::192.0.2.1", "::ffff:192.0.2.1", "ff02::1", "fe80::1", "febf::1",
  ])
  func neitherFromNorTo(text: String) {
    #expect(Martian.isSource(address(text)))
    #expect(Martian.isDestination(address(text)))
  }

  @Test(arguments: [
    "1.0.0.0", "10.0.0.1", "126.255.255.255", "128.0.0.1", "192.168.1.1", "198.51.100.1", "223.255.255.255",
    "2001:db8::1", "fc00::1", "fd00::1", "fec0::1", "64:ff9b::192.0.2.1", "::1:0:0:0", "::fffe:0:0",
  ])
  func carried(text: String) {
    #expect(!Martian.isSource(address(text)))
    #expect(!Martian.isDestination(address(text)))
  }

  @Test func linkLocalIPv4IsForwardedFromButNotTo() {
    #expect(!Martian.isSource(address("169.254.1.1")))
    #expect(Martian.isDestination(address("169.254.1.1")))
  }

  @Test func theHostPathTakesLinkLocalAndUnspecifiedSources() {
    #expect(!Martian.isHostSource(v6High: 0, low: 0))
    #expect(Martian.isHostSource(v6High: 0, low: 1))
    #expect(!Martian.isHostSource(v6High: 0xfe80 << 48, low: 1))
    #expect(Martian.isHostSource(v6High: 0xff02 << 48, low: 1))
  }
}
