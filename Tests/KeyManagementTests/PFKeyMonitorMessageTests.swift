import IPsec
import Testing
import Wire

@testable import KeyManagement

@Suite struct PFKeyMonitorMessageTests {
  /// struct sadb_msg of OpenBSD, then SADB_EXT_SA and two addresses with a length first.
  @Test func deletion() throws {
    let sa = SAParameters(
      spi: 0x2d21_48ab, source: IPAddress("200.69.110.71"),
      destination: IPAddress("202.245.63.218"))
    let record = SARecord(parameters: sa, state: .mature)
    let bytes = PFKeyMonitorMessage.bytes(.saDeleted(record), sequence: 5, process: 99)
    #expect(bytes.count == 10 * 8)
    #expect(Array(bytes[..<16]) == [2, 4, 0, 2, 10, 0, 0, 0, 5, 0, 0, 0, 99, 0, 0, 0])
    #expect(Array(bytes[16..<24]) == [2, 0, 1, 0, 0x2d, 0x21, 0x48, 0xab])
    #expect(Array(bytes[32..<48]) == [3, 0, 5, 0, 0, 0, 0, 0, 16, 2, 0, 0, 200, 69, 110, 71])
  }

  @Test func everyEventHasOne() throws {
    let prefix = IPPrefix("10.0.0.0/8")
    let policy = PolicyRecord(
      index: 9,
      parameters: PolicyParameters(direction: .out, selector: Selector(source: prefix, destination: prefix)))
    for event in [DatabaseEvent.policyAdded(policy), .policyDeleted(policy), .policiesFlushed, .sasFlushed(.esp)] {
      let bytes = PFKeyMonitorMessage.bytes(event, sequence: 1, process: 0)
      #expect(bytes.count.isMultiple(of: 8) && Int(bytes[4]) * 8 == bytes.count)
    }
  }
}
