import SeededRandom
import Testing

@testable import IPsec

/// RFC 4303 2.4: padding, its length, next header.
@Suite struct ESPTrailerTests {
  /// What the trailer says, octet by octet; nil: it is wrong.
  private func model(_ text: ArraySlice<UInt8>) -> (length: Int, nextHeader: UInt8)? {
    let padding = Int(text[text.endIndex - 2])
    let length = text.count - 2 - padding
    guard length >= 0 else { return nil }
    let isRight = text.dropFirst(length).prefix(padding).enumerated().allSatisfy { Int($1) == $0 + 1 }
    return isRight ? (length, text[text.endIndex - 1]) : nil
  }

  @Test func agreesWithTheModel() {
    var random = SeededGenerator()
    for _ in 0..<40_000 {
      // Behind 8 octets, as the ESP header lies before.
      var octets = random.bytes(8 + .random(in: 2...40, using: &random))
      let padding = Int.random(in: 0...20, using: &random)
      let end = octets.count - 2
      octets[end] = UInt8(padding)
      for (index, offset) in (end - padding..<end).enumerated() where offset >= 8 { octets[offset] = UInt8(index + 1) }
      if Bool.random(using: &random) { octets[.random(in: 8..<octets.count, using: &random)] ^= 1 }
      let expected = model(octets[8...])
      let payload = octets.withUnsafeBytes { ESP.readTrailer($0.baseAddress! + 8, length: octets.count - 8) }
      let isAsExpected =
        expected.map { payload.isValid && payload.length == $0.length && payload.nextHeader == $0.nextHeader }
        ?? !payload.isValid
      #expect(isAsExpected, "seed \(random.seed): \(octets)")
    }
  }
}
