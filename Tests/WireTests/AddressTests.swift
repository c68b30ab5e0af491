import Testing
import Wire

@Suite struct AddressTests {
  @Test(arguments: ["0.0.0.0", "192.168.60.1", "255.255.255.255", "::", "2001:db8::1", "::ffff:1.2.3.4"])
  func textRoundTrip(_ text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(address.description == text)
    #expect(IPAddress(bytes: address.bytes) == address)
  }

  @Test(arguments: ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4x", "fe80::1%eth0", ":::"])
  func refusesText(_ text: String) { #expect(IPAddress(text) == nil) }

  @Test func prefixClearsHostBits() throws {
    let prefix = try #require(IPPrefix("192.168.60.77/24"))
    #expect(prefix.description == "192.168.60.0/24")
    #expect(prefix.contains(IPAddress("192.168.60.255")!))
    #expect(!prefix.contains(IPAddress("192.168.61.0")!))
    #expect(!prefix.contains(IPAddress("::1")!))
    #expect(IPPrefix("2001:db8:ffff::/33")!.description == "2001:db8:8000::/33")
    #expect(IPPrefix("2001:db8::ff/127")!.contains(IPAddress("2001:db8::fe")!))
    #expect(IPPrefix("10.0.0.1")!.description == "10.0.0.1")
    #expect(IPPrefix.any(.v4).contains(IPAddress("9.9.9.9")!))
  }

  @Test(arguments: ["1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/8/8", "/8"])
  func refusesPrefix(_ text: String) { #expect(IPPrefix(text) == nil) }

  @Test func mac() throws {
    #expect(MACAddress("02:00:00:00:00:02")!.description == "02:00:00:00:00:02")
    #expect(MACAddress("02:00:00:00:00") == nil)
    #expect(MACAddress("02:00:00:00:00:0g") == nil)
    #expect(MACAddress("01:00:5e:00:00:01")!.isMulticast)
  }
}
