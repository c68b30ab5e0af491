import SeededRandom
import Testing

@testable import Wire

@Suite struct IPv4HeaderTests {
  static let source = IPv4Address("192.168.60.1")!
  static let destination = IPv4Address("172.20.1.9")!

  static func packet(payload: [UInt8] = [], fragmentField: UInt16 = 0x4000) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 20) + payload
    bytes.withUnsafeMutableBytes {
      IPv4Header.write(
        $0.baseAddress!, source: source, destination: destination, ipProtocol: IPProtocol.udp,
        totalLength: 20 + payload.count, timeToLive: 7, typeOfService: 0xb9, identification: 0xbeef,
        fragmentField: fragmentField)
    }
    return bytes
  }

  @Test func writesWhatItReads() throws {
    let bytes = Self.packet(payload: [0x12, 0x34, 0x11, 0x94, 0, 8, 0, 0])
    try withExact(bytes) { base in
      let header = try #require(IPv4Header(base, length: bytes.count))
      #expect(header.headerLength == 20 && !header.hasOptions)
      #expect(header.totalLength == 28 && header.payloadLength == 8)
      #expect(header.dscp == 0x2e && header.ecn == 1)
      #expect(header.identification == 0xbeef)
      #expect(header.dontFragment && !header.moreFragments && !header.isFragment && header.fragmentOffset == 0)
      #expect(header.timeToLive == 7 && header.ipProtocol == 17)
      #expect(header.source == Self.source && header.destination == Self.destination)
      #expect(header.isChecksumValid && header.checksum == InternetChecksumTests.naive(Self.zeroChecksum(bytes)))
      #expect(header.ports == TransportPorts(source: 0x1234, destination: 4500))
    }
  }

  /// The check of a short header in one sum and a multiplication, beside the sum by octets.
  @Test func shortChecksumIsTheChecksum() {
    var random = SeededGenerator()
    func agrees(_ header: [UInt8]) {
      let expected = InternetChecksumTests.naive(header) == 0
      let answer = header.withUnsafeBytes { IPv4Header.isShortChecksumValid($0.baseAddress!) }
      #expect(answer == expected, "seed \(random.seed): \(header)")
    }
    for _ in 0..<20_000 {
      var header = random.bytes(20)
      if Bool.random(using: &random) { header = header.map { $0 & 1 == 0 ? 0xff : $0 & 2 == 0 ? 0 : $0 } }
      header[0] = 0x45
      let sum = InternetChecksumTests.naive(Self.zeroChecksum(header))
      header[10] = UInt8(sum >> 8)
      header[11] = UInt8(sum & 0xff)
      agrees(header)
      header[.random(in: 1..<20, using: &random)] &+= .random(in: 1...255, using: &random)
      agrees(header)
    }
  }

  /// Nothing is done to a packet whose last hop this is; and the checksum passes over its own zeros as RFC 1624 says.
  @Test func timeToLiveEnds() {
    for ttl: UInt8 in [0, 1] {
      var header = Self.packet()
      header[8] = ttl
      let before = header
      let isDone = header.withUnsafeMutableBytes { IPv4Header.decrementTTL($0.baseAddress!) }
      #expect(!isDone && header == before)
    }
    for checksum in UInt16(0)...UInt16.max {
      var header = [UInt8](repeating: 0, count: 12)
      header[8] = 64
      header[9] = 17
      (header[10], header[11]) = (UInt8(checksum >> 8), UInt8(checksum & 0xff))
      _ = header.withUnsafeMutableBytes { IPv4Header.decrementTTL($0.baseAddress!) }
      let sum = UInt32(checksum) + 0x0100
      let expected = UInt16(truncatingIfNeeded: sum + (sum >= 0xffff ? 1 : 0))
      let answer = UInt16(header[10]) << 8 | UInt16(header[11])
      if answer != expected || header[8] != 63 || header[9] != 17 {
        Issue.record("\(checksum): \(answer), not \(expected)")
      }
    }
  }

  static func zeroChecksum(_ bytes: [UInt8]) -> [UInt8] {
    var header = Array(bytes.prefix(20))
    header[10] = 0
    header[11] = 0
    return header
  }

  @Test func fragments() {
    let first = Self.packet(payload: [1, 2, 3, 4], fragmentField: 0x2000)
    let later = Self.packet(payload: [1, 2, 3, 4], fragmentField: 0x0003)
    withExact(first) {
      let header = IPv4Header($0, length: 24)!
      #expect(header.isFragment && header.moreFragments && header.fragmentOffset == 0)
      #expect(header.ports == TransportPorts(source: 0x0102, destination: 0x0304))
    }
    withExact(later) {
      let header = IPv4Header($0, length: 24)!
      #expect(header.isFragment && !header.moreFragments && header.fragmentOffset == 24)
      #expect(header.ports == nil)
    }
  }

  @Test func settersKeepTheChecksum() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      var bytes = random.bytes(20)
      bytes[0] = 0x45
      bytes[8] = UInt8(2 + random.below(254))
      bytes[2] = 0
      bytes[3] = 20
      let ttl = bytes[8]
      let value = UInt16(truncatingIfNeeded: random.next())
      withExact(bytes) { base in
        IPv4Header.setChecksum(base)
        let header = IPv4Header(base, length: 20)!
        #expect(IPv4Header.decrementTTL(base))
        #expect(header.timeToLive == ttl - 1 && header.isChecksumValid, "seed \(seed)")
        IPv4Header.setTypeOfService(base, UInt8(truncatingIfNeeded: value))
        IPv4Header.setProtocol(base, UInt8(truncatingIfNeeded: value >> 8))
        #expect(header.typeOfService == UInt8(truncatingIfNeeded: value) && header.timeToLive == ttl - 1)
        #expect(header.ipProtocol == UInt8(truncatingIfNeeded: value >> 8))
        IPv4Header.setFragmentField(base, value)
        IPv4Header.setTotalLength(base, value)
        #expect(header.totalLength == Int(value) && header.isChecksumValid, "seed \(seed)")
        #expect(!header.hasOptions)
      }
    }
  }

  @Test func refuses() {
    func fault(_ change: (inout [UInt8]) -> Void) -> HeaderFault? {
      var bytes = Self.packet(payload: [UInt8](repeating: 0, count: 12))
      change(&bytes)
      return withExact(bytes) { IPv4Header.fault($0, length: bytes.count) }
    }
    #expect(fault { _ in } == nil)
    #expect(fault { $0.append(contentsOf: [0, 0]) } == nil)  // padding of the link
    #expect(fault { $0.removeLast(13) } == .truncated)
    #expect(fault { $0[0] = 0x65 } == .version)
    #expect(fault { $0[0] = 0x44 } == .headerLength)
    #expect(fault { $0[0] = 0x4f } == .headerLength)
    #expect(fault { $0[0] = 0x48 } == nil)
    #expect(fault { $0.removeLast() } == .totalLength)
    #expect(fault { $0[2] = 0xff } == .totalLength)
    #expect(fault { $0[3] = 19 } == .headerLength)
    #expect(fault { $0 = [] } == .truncated)
  }

  @Test func badChecksumIsSeen() {
    var bytes = Self.packet()
    for bit in 0..<160 where bit / 8 != 0 && bit / 8 != 2 && bit / 8 != 3 {
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      withExact(bytes) { #expect(IPv4Header($0, length: 20)?.isChecksumValid == false) }
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
    }
  }
}
