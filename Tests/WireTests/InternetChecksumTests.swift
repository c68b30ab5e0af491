import SeededRandom
import Testing

@testable import Wire

@Suite struct InternetChecksumTests {
  /// The definition, a byte at a time.
  static func naive(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for (index, byte) in bytes.enumerated() { sum += UInt32(byte) << (index % 2 == 0 ? 8 : 0) }
    while sum > 0xffff { sum = (sum & 0xffff) + sum >> 16 }
    return ~UInt16(sum)
  }

  /// RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
  @Test func rfc1071() {
    let bytes: [UInt8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]
    #expect(InternetChecksum.of(bytes, count: 8) == ~0xddf2)
  }

  /// RFC 1624 section 4: checksum dd2f, word 5555 becomes 3285: 0000 and not ffff.
  @Test func rfc1624() {
    #expect(InternetChecksum.updated(0xdd2f, from: 0x5555 as UInt16, to: 0x3285) == 0)
  }

  @Test func anyLengthAnyChunking() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for length in 0..<300 {
      let bytes = random.bytes(length)
      let expected = Self.naive(bytes)
      withExact(bytes) { base in
        #expect(InternetChecksum.of(base, count: length) == expected, "seed \(seed)")
        var sum = InternetChecksum()
        var offset = 0
        while offset < length {
          let count = 1 + random.below(length - offset)
          sum.add(UnsafeRawPointer(base) + offset, count: count)
          offset += count
        }
        #expect(sum.value == expected, "seed \(seed), length \(length)")
      }
    }
  }

  @Test func allOnesDoNotOverflow() {
    let bytes = [UInt8](repeating: 0xff, count: 65535)
    #expect(InternetChecksum.of(bytes, count: bytes.count) == Self.naive(bytes))
  }

  @Test func incrementalAgreesWithSum() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      var bytes = random.bytes(20)
      bytes[1] |= 1  // not all zero, where 0 and ffff part ways
      let before = InternetChecksum.of(bytes, count: 20)
      let offset = 2 + 2 * random.below(8)
      let old = bytes.withUnsafeBytes { $0.baseAddress!.big32(at: offset) }
      let new = UInt32(truncatingIfNeeded: random.next())
      bytes.withUnsafeMutableBytes { $0.baseAddress!.setBig32(new, at: offset) }
      let after = InternetChecksum.of(bytes, count: 20)
      #expect(InternetChecksum.updated(before, from: old, to: new) == after, "seed \(seed)")
      let high = InternetChecksum.updated(before, from: UInt16(old >> 16), to: UInt16(new >> 16))
      let both = InternetChecksum.updated(
        high, from: UInt16(truncatingIfNeeded: old), to: UInt16(truncatingIfNeeded: new))
      #expect(both == after, "seed \(seed)")
    }
  }

  @Test func pseudoHeaders() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for length in 8..<64 {
      let data = random.bytes(length)
      let v4 = random.bytes(8)
      var sum = InternetChecksum()
      v4.withUnsafeBytes {
        sum.addPseudoHeader(
          source: $0.baseAddress!.ipv4Address(at: 0), destination: $0.baseAddress!.ipv4Address(at: 4),
          ipProtocol: 17, length: UInt16(length))
      }
      sum.add(data, count: length)
      #expect(sum.value == Self.naive(v4 + [0, 17, 0, UInt8(length)] + data), "seed \(seed)")
      let v6 = random.bytes(32)
      var sum6 = InternetChecksum()
      v6.withUnsafeBytes {
        sum6.addPseudoHeader(
          source: $0.baseAddress!.ipv6Address(at: 0), destination: $0.baseAddress!.ipv6Address(at: 16),
          ipProtocol: 58, length: UInt32(length))
      }
      sum6.add(data, count: length)
      #expect(sum6.value == Self.naive(v6 + [0, 0, 0, UInt8(length), 0, 0, 0, 58] + data), "seed \(seed)")
    }
  }
}
