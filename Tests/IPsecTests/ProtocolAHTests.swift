import CLayout
import Engines
import SeededRandom
import Testing
import Wire

@testable import IPsec

@Suite struct ProtocolAHTests {
  static func sa(_ algorithm: AuthenticationAlgorithm, isV6: Bool) -> UnsafeMutablePointer<gw_sa> {
    let destination = isV6 ? Sample.v6(1, 2) : Sample.v4(1)
    let sa = Sample.sa(spi: 0x1234_5678, destination: destination, saProtocol: 51)
    sa.pointee.alignment = isV6 ? 8 : 4
    sa.pointee.iv_length = algorithm == .aesGMAC ? 8 : 0
    sa.pointee.icv_length = UInt8(algorithm.icvLength)
    return sa
  }

  /// RFC 4302 2.2 and 2.6; GMAC in IPv6 has 4 bytes of padding (RFC 4543, erratum 3643).
  @Test func headerLengths() {
    let expected: [AuthenticationAlgorithm: (Int, Int)] = [
      .hmacMD5: (24, 24), .hmacSHA1: (24, 24), .aesXCBC: (24, 24), .aesCMAC: (24, 24), .hmacSHA256: (28, 32),
      .hmacSHA384: (36, 40), .hmacSHA512: (44, 48), .aesGMAC: (36, 40),
    ]
    for algorithm in AuthenticationAlgorithm.allCases {
      let (v4, v6) = (Self.sa(algorithm, isV6: false), Self.sa(algorithm, isV6: true))
      defer {
        v4.deallocate()
        v6.deallocate()
      }
      #expect(AH.headerLength(v4) == expected[algorithm]!.0 && AH.headerLength(v6) == expected[algorithm]!.1)
      #expect(AH.headerLength(v6) - AHHeader.fixedLength <= AH.maximumICVField)
      for length in 0..<200 {
        #expect(AH.accepts(v6, headerLength: length) == (length == expected[algorithm]!.1))
        let padded = length == expected[algorithm]!.0 || length == (expected[algorithm]!.0 + 7) / 8 * 8
        #expect(AH.accepts(v4, headerLength: length) == padded)
      }
    }
  }

  @Test func headerAsWritten() {
    let sa = Self.sa(.hmacSHA256, isV6: true)
    defer { sa.deallocate() }
    var bytes = [UInt8](repeating: 0xff, count: 40)
    bytes.withUnsafeMutableBytes { AH.write(sa, at: $0.baseAddress!, nextHeader: 6, sequence: 0x1_0000_00ff) }
    #expect(bytes[..<12] == [6, 6, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0xff])
    #expect(bytes[12..<32].allSatisfy { $0 == 0 } && bytes[32...].allSatisfy { $0 == 0xff })
  }

  static func cleared(_ headers: [UInt8], isSealing: Bool = false) -> [UInt8]? {
    var headers = headers
    let version = headers[0] >> 4
    let count = headers.count
    let done = headers.withUnsafeMutableBytes {
      AHImage.clear($0.baseAddress!, end: count, version: version, isSealing: isSealing)
    }
    return done ? headers : nil
  }

  static func ipv4(_ options: [UInt8]) -> [UInt8] {
    [0x45 + UInt8(options.count / 4), 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 51, 0xff, 0xff] + Array(1...8) + options
  }

  /// RFC 4302 Appendix A1, option by option.
  @Test func optionsOfIPv4() {
    #expect(Self.cleared(Self.ipv4([])) == [0x45, 0, 1, 2, 3, 4, 0, 0, 0, 51, 0, 0] + Array(1...8))
    for type in UInt8.min...UInt8.max {
      let option: [UInt8] = [type, 7, 1, 2, 3, 4, 5, 1]
      let image = Self.cleared(Self.ipv4(option))
      switch type {
      case 131, 137: #expect(image == nil)
      case 0: #expect(image?[20...] == option[...])
      case 130, 133, 134, 148, 149: #expect(image.map { Array($0[20...]) } == option)
      case 1: #expect(image == nil || image!.count == 28)
      default: #expect(image.map { Array($0[20...]) } == [0, 0, 0, 0, 0, 0, 0, 1])
      }
    }
    // Lengths that lie.
    for length in UInt8.min...UInt8.max {
      let image = Self.cleared(Self.ipv4([68, length, 9, 9]))
      // 2 and 3 leave bytes of no option behind, whatever those are.
      #expect(length == 2 || length == 3 || (image != nil) == (length == 4))
    }
  }

  static func ipv6(_ next: UInt8, _ extensions: [UInt8]) -> [UInt8] {
    [0x6f, 0xff, 0xff, 0xff, 0, 9, next, 0xff] + Array(1...32) + extensions
  }

  @Test func optionsOfIPv6() {
    let image = Self.cleared(Self.ipv6(51, []))
    #expect(image == [0x60, 0, 0, 0, 0, 9, 51, 0] + Array(1...32))
    for type in UInt8(2)...UInt8.max {
      for header in [IPProtocol.hopByHop, IPProtocol.destinationOptions] {
        let image = Self.cleared(Self.ipv6(header, [51, 0, 0, type, 3, 7, 8, 9]))
        let data: [UInt8] = type & 0x20 != 0 ? [0, 0, 0] : [7, 8, 9]
        #expect(image.map { Array($0[40...]) } == [51, 0, 0, type, 3] + data)
      }
    }
    // A fragment header, an unknown header, a length that lies, an option that does.
    #expect(Self.cleared(Self.ipv6(44, [51, 0, 0, 0, 0, 0, 0, 0])) == nil)
    #expect(Self.cleared(Self.ipv6(135, [51, 0, 0, 0, 0, 0, 0, 0])) == nil)
    #expect(Self.cleared(Self.ipv6(0, [51, 1, 1, 0, 0, 0, 0, 0])) == nil)
    #expect(Self.cleared(Self.ipv6(0, [51, 0, 0x3e, 5, 0, 0, 0, 0])) == nil)
    #expect(Self.cleared(Self.ipv6(0, [51, 0, 0x3e, 4, 0, 0, 0, 0])) != nil)
  }

  /// What the sender of a packet with a routing header authenticates is what its receiver sees after all hops.
  @Test func routingHeaders() {
    for count in 1...4 {
      for left in 0...count {
        let hops = (0..<count).map { hop in [UInt8](repeating: UInt8(0xa0 + hop), count: 16) }
        let header: [UInt8] = [51, UInt8(count * 2), 0, UInt8(left), 0, 0, 0, 0] + Array(hops.joined())
        let sent = Self.ipv6(43, header)
        var arrived = sent
        var remaining = left
        while remaining > 0 {
          // RFC 2460 4.4: swap the destination and the next address.
          let at = 48 + (count - remaining) * 16
          let address = Array(arrived[at..<at + 16])
          arrived.replaceSubrange(at..<at + 16, with: arrived[24..<40])
          arrived.replaceSubrange(24..<40, with: address)
          remaining -= 1
          arrived[43] = UInt8(remaining)
        }
        #expect(Self.cleared(sent, isSealing: true) == Self.cleared(arrived))
        #expect(left == 0 || Self.cleared(sent) == nil)
      }
    }
    // More segments left than addresses, odd lengths, unknown types.
    #expect(Self.cleared(Self.ipv6(43, [51, 2, 0, 2] + [UInt8](repeating: 0, count: 20)), isSealing: true) == nil)
    #expect(Self.cleared(Self.ipv6(43, [51, 1, 0, 1] + [UInt8](repeating: 0, count: 12)), isSealing: true) == nil)
    #expect(Self.cleared(Self.ipv6(43, [51, 2, 4, 1] + [UInt8](repeating: 0, count: 20)), isSealing: true) == nil)
  }

  /// Any bytes, in memory of exactly their size: no trap, nothing beyond touched.
  @Test func hostileHeaders() {
    var generator = SeededGenerator()
    for _ in 0..<20_000 {
      let isV4 = Bool.random(using: &generator)
      let count = isV4 ? Int.random(in: 5...15, using: &generator) * 4 : Int.random(in: 5...69, using: &generator) * 8
      let memory = UnsafeMutableRawPointer.allocate(byteCount: count + 8, alignment: 8)
      defer { memory.deallocate() }
      for offset in 0..<count + 8 {
        memory.setByte(UInt8.random(in: 0...255, using: &generator), at: offset)
      }
      if !isV4 {
        memory.setByte([0, 43, 60, 44, 51].randomElement(using: &generator)!, at: 6)
        if Bool.random(using: &generator) { memory.setByte(UInt8(max(0, count / 8 - 6)), at: 41) }
      }
      let behind = UnsafeRawPointer(memory).big64(at: count)
      _ = AHImage.clear(memory, end: count, version: isV4 ? 4 : 6, isSealing: Bool.random(using: &generator))
      #expect(UnsafeRawPointer(memory).big64(at: count) == behind, "seed \(generator.seed)")
    }
  }
}
