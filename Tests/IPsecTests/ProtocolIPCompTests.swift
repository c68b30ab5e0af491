import CLayout
import SeededRandom
import Testing
import Wire

@testable import IPsec

@Suite struct ProtocolIPCompTests {
  @Test func roundTrips() throws {
    var generator = SeededGenerator()
    let deflate = try #require(Deflate())
    defer { deflate.deallocate() }
    for _ in 0..<500 {
      let count = Int.random(in: 1...9000, using: &generator)
      let alphabet = UInt8.random(in: 1...255, using: &generator)
      let input = (0..<count).map { _ in UInt8.random(in: 0...alphabet, using: &generator) }
      let made = deflate.compress(input, length: count, limit: count - 4)
      #expect(made < max(count - 4, 1))
      guard made > 0 else { continue }
      let compressed = Array(UnsafeRawBufferPointer(start: deflate.output, count: made))
      #expect(deflate.decompress(compressed, length: made, limit: count - 1) == nil)
      let length = deflate.decompress(compressed, length: made, limit: 65_535)
      #expect(length == count)
      #expect(Array(UnsafeRawBufferPointer(start: deflate.output, count: length ?? 0)) == input)
    }
  }

  @Test func nothingExceedsTheLimit() throws {
    let deflate = try #require(Deflate())
    defer { deflate.deallocate() }
    // RFC 1951 3.2.4: stored blocks; more bytes than a packet can have.
    var stored: [UInt8] = []
    for _ in 0..<3 { stored += [0, 0xff, 0xff, 0, 0] + [UInt8](repeating: 1, count: 65_535) }
    stored[stored.count - 65_540] = 1
    #expect(deflate.decompress(stored, length: stored.count, limit: 1_000_000) == nil)
    #expect(deflate.decompress([UInt8](), length: 0, limit: 100) == nil)
    #expect(deflate.compress([UInt8](), length: 0, limit: 0) == 0)
  }

  @Test func hostileBytes() throws {
    var generator = SeededGenerator()
    let deflate = try #require(Deflate())
    defer { deflate.deallocate() }
    let text = [UInt8](repeating: 0x41, count: 2000)
    let made = deflate.compress(text, length: text.count, limit: 2000)
    let good = Array(UnsafeRawBufferPointer(start: deflate.output, count: made))
    for round in 0..<20_000 {
      var bytes = round % 2 == 0 ? good : [UInt8](repeating: 0, count: Int.random(in: 0...99, using: &generator))
      for index in bytes.indices where round % 2 == 1 || Int.random(in: 0..<8, using: &generator) == 0 {
        bytes[index] = UInt8.random(in: 0...255, using: &generator)
      }
      let limit = Int.random(in: 0...9000, using: &generator)
      let length = deflate.decompress(bytes, length: bytes.count, limit: limit)
      #expect(length ?? 0 <= limit, "seed \(generator.seed)")
    }
  }

  /// RFC 3173 4.3: after some packets that did not shrink, fewer and fewer are tried; one that shrinks ends that.
  @Test func history() {
    let history = CompressionHistory()
    defer { history.deallocate() }
    func tries(of packets: Int, shrink: Bool) -> Int {
      (0..<packets).reduce(0) { count, _ in
        guard history.shouldTry(serial: 7) else { return count }
        history.note(serial: 7, didShrink: shrink)
        return count + 1
      }
    }
    #expect(tries(of: 3, shrink: false) == 3)
    let many = tries(of: 10_000, shrink: false)
    #expect(many >= 10_000 / 257 && many < 10_000 / 257 + 12)
    while !history.shouldTry(serial: 7) {}
    history.note(serial: 7, didShrink: true)
    #expect(tries(of: 100, shrink: true) == 100)
    // Another SA in the same place starts anew.
    _ = tries(of: 10, shrink: false)
    #expect(history.shouldTry(serial: 7 + UInt32(CompressionHistory.size)))
  }

  @Test func cpiIsTheLowHalf() {
    let sa = Sample.sa(spi: 0x0000_abcd, destination: Sample.v4(1), saProtocol: 108)
    defer { sa.deallocate() }
    #expect(IPComp.cpi(sa) == 0xabcd)
  }

  /// The SAD finds an inbound IPComp tunnel by its CPI, and by its ends for what did not shrink.
  @Test func sadKnowsCompressedTunnelsByTheirEnds() {
    let sad = SAD(reclaimer: ImmediateReclaimer())
    let destination = Sample.v4(0x0a00_0001)
    let sas = (0..<2).map { index in
      let sa = Sample.sa(spi: 0x300 + UInt32(index), destination: destination, saProtocol: 108)
      sa.pointee.flags |= GW_SA_INBOUND.rawValue | (index == 0 ? GW_SA_TUNNEL.rawValue : 0)
      sa.pointee.source_low = 0x0a00_0002
      #expect(sad.insert(sa))
      return sa
    }
    func found() -> UnsafeMutablePointer<gw_sa>? {
      let number = SADReader.ipipSPI(sourceHigh: 0, sourceLow: 0x0a00_0002)
      return sad.inbound.lookup(spi: number, destination4: 0x0a00_0001, saProtocol: 4)?.record
    }
    #expect(found() == sas[0])
    #expect(sad.lookup(spi: 0x300, destination: destination, saProtocol: 108) == sas[0])
    let replacement = Sample.sa(spi: 0x300, destination: destination, saProtocol: 108)
    replacement.pointee.flags |= GW_SA_INBOUND.rawValue | GW_SA_TUNNEL.rawValue
    replacement.pointee.source_low = 0x0a00_0002
    #expect(sad.replace(sas[0], by: replacement))
    #expect(found() == replacement)
    #expect(sad.remove(replacement) && found() == nil)
    #expect(sad.remove(sas[1]) && sad.count == 0)
    for sa in sas + [replacement] { sa.deallocate() }
  }

  /// An IPIP SA and an IPComp tunnel of the same ends, added in either order: IP in IP is the former's while it stands.
  @Test(arguments: [false, true], [false, true])
  func sadTellsIPIPFromIPComp(isV6: Bool, isCompressedFirst: Bool) {
    let sad = SAD(reclaimer: ImmediateReclaimer())
    let source: (UInt64, UInt64) = isV6 ? (0x2001_0db8_0000_0000, 2) : (0, 0x0a00_0002)
    let destination: IPAddress =
      isV6 ? .v6(IPv6Address(high: 0x2001_0db8_0000_0000, low: 1)) : Sample.v4(0x0a00_0001)
    let number = SADReader.ipipSPI(sourceHigh: source.0, sourceLow: source.1)
    func sample(_ saProtocol: UInt8, spi: UInt32) -> UnsafeMutablePointer<gw_sa> {
      let sa = Sample.sa(spi: spi, destination: destination, saProtocol: saProtocol)
      sa.pointee.flags |= GW_SA_INBOUND.rawValue | GW_SA_TUNNEL.rawValue
      (sa.pointee.source_high, sa.pointee.source_low) = source
      return sa
    }
    let (compressed, plain) = (sample(108, spi: 0x300), sample(4, spi: number.bigEndian))
    func found() -> UnsafeMutablePointer<gw_sa>? {
      sad.lookup(spi: number.bigEndian, destination: destination, saProtocol: 4)
    }
    for sa in isCompressedFirst ? [compressed, plain] : [plain, compressed] { #expect(sad.insert(sa)) }
    #expect(found() == plain)
    #expect(sad.lookup(spi: 0x300, destination: destination, saProtocol: 108) == compressed)
    #expect(sad.remove(plain) && found() == compressed)
    #expect(sad.insert(plain) && found() == plain)
    #expect(sad.remove(compressed) && found() == plain)
    #expect(sad.remove(plain) && found() == nil)
    for sa in [compressed, plain] { sa.deallocate() }
  }
}
