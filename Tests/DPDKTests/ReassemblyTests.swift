import CDPDK
import Foundation
import SeededRandom
import Testing
import Wire

@testable import DPDK

extension DPDKTests {
  @Suite struct ReassemblyTests {
    static let source = IPv4Address("192.0.2.1")!
    static let destination = IPv4Address("192.0.2.2")!
    static let source6 = IPv6Address("2001:db8::1")!
    static let destination6 = IPv6Address("2001:db8::2")!

    /// Bytes `range` of a datagram of UDP whose byte i is i * 31.
    static func fragment4(_ pool: Mempool, _ range: Range<Int>, more: Bool, identification: UInt16) throws -> Mbuf {
      let mbuf = try #require(pool.allocate())
      mbuf.setLength(14 + 20 + range.count)
      memset(mbuf.data, 0, 14)
      IPv4Header.write(
        mbuf.data + 14, source: source, destination: destination, ipProtocol: IPProtocol.udp,
        totalLength: 20 + range.count, identification: identification,
        fragmentField: UInt16(range.lowerBound / 8) | (more ? 0x2000 : 0))
      for (index, byte) in range.enumerated() {
        mbuf.data.setByte(UInt8(truncatingIfNeeded: byte * 31), at: 34 + index)
      }
      return mbuf
    }

    static func fragment6(_ pool: Mempool, _ range: Range<Int>, more: Bool, identification: UInt32) throws -> Mbuf {
      let mbuf = try #require(pool.allocate())
      mbuf.setLength(14 + 48 + range.count)
      memset(mbuf.data, 0, 14)
      IPv6Header.write(
        mbuf.data + 14, source: source6, destination: destination6, nextHeader: IPProtocol.fragment,
        payloadLength: 8 + range.count)
      mbuf.data.setBig16(UInt16(IPProtocol.udp) << 8, at: 54)
      mbuf.data.setBig16(UInt16(range.lowerBound) | (more ? 1 : 0), at: 56)
      mbuf.data.setBig32(identification, at: 58)
      for (index, byte) in range.enumerated() {
        mbuf.data.setByte(UInt8(truncatingIfNeeded: byte * 31), at: 62 + index)
      }
      return mbuf
    }

    static func hasPattern(_ mbuf: Mbuf, from offset: Int, count: Int) -> Bool {
      Int(mbuf.pointee.data_len) == offset + count
        && (0..<count).allSatisfy {
          UnsafeRawPointer(mbuf.data).byte(at: offset + $0) == UInt8(truncatingIfNeeded: $0 * 31)
        }
    }

    static let pieces: [(Range<Int>, Bool)] = [(0..<400, true), (400..<800, true), (800..<1001, false)]

    @Test(arguments: [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]]) func ipv4AnyOrder(_ order: [Int]) throws {
      let pool = try TestEAL.pool("frag4", capacity: 127)
      let table = try #require(cdpdk_reassembly_create(16, rte_get_tsc_hz(), -1))
      for identification in 0..<20 as Range<UInt16> {
        for (turn, index) in order.enumerated() {
          let (range, more) = Self.pieces[index]
          let mbuf = try Self.fragment4(pool, range, more: more, identification: identification)
          let whole = cdpdk_reassemble_ipv4(table, mbuf, cdpdk_cycles(), 14)
          #expect((whole != nil) == (turn == 2))
          guard let whole else { continue }
          #expect(whole.pointee.pkt_len == 14 + 20 + 1001 && cdpdk_linearize(whole) == 0)
          let header = try #require(IPv4Header(whole.data + 14, length: 1021))
          #expect(header.totalLength == 1021 && !header.isFragment)
          #expect(Self.hasPattern(whole, from: 34, count: 1001))
          cdpdk_free(whole)
        }
      }
      cdpdk_reassembly_destroy(table)
      #expect(pool.inUse == 0)
      pool.free()
    }

    @Test(arguments: [[0, 1, 2], [2, 1, 0]]) func ipv6AnyOrder(_ order: [Int]) throws {
      let pool = try TestEAL.pool("frag6", capacity: 127)
      let table = try #require(cdpdk_reassembly_create(16, rte_get_tsc_hz(), -1))
      for (turn, index) in order.enumerated() {
        let (range, more) = Self.pieces[index]
        let mbuf = try Self.fragment6(pool, range, more: more, identification: 7)
        let whole = cdpdk_reassemble_ipv6(table, mbuf, cdpdk_cycles(), 14, 54)
        #expect((whole != nil) == (turn == 2))
        guard let whole else { continue }
        #expect(cdpdk_linearize(whole) == 0)
        let header = try #require(IPv6Header(whole.data + 14, length: Int(whole.pointee.data_len) - 14))
        #expect(header.nextHeader == IPProtocol.udp && header.payloadLength == 1001)
        #expect(Self.hasPattern(whole, from: 54, count: 1001))
        cdpdk_free(whole)
      }
      cdpdk_reassembly_destroy(table)
      #expect(pool.inUse == 0)
      pool.free()
    }

    @Test func whatIsMissingTimesOut() throws {
      let pool = try TestEAL.pool("fragtime", capacity: 127)
      let table = try #require(cdpdk_reassembly_create(16, 1000, -1))
      let mbuf = try Self.fragment4(pool, 0..<400, more: true, identification: 1)
      #expect(cdpdk_reassemble_ipv4(table, mbuf, 5000, 14) == nil)
      #expect(cdpdk_reassembly_collect(table, 5500) == 0 && pool.inUse == 1)
      #expect(cdpdk_reassembly_collect(table, 7000) == 1 && pool.inUse == 0)
      cdpdk_reassembly_destroy(table)
      pool.free()
    }

    /// Overlaps, doubles, gaps, absurd offsets, more pieces and datagrams than there is room for: no buffer is lost and
    /// nothing wrong comes out.
    @Test func hostileFragments() throws {
      let pool = try TestEAL.pool("fragbad", capacity: 1023)
      let table = try #require(cdpdk_reassembly_create(16, 1_000_000, -1))
      let seed = UInt64.random(in: 0...UInt64.max)
      var random = SeededGenerator(seed: seed)
      var now: UInt64 = 10_000_000
      for _ in 0..<50_000 {
        now += random.next() % 20_000
        let start = Int(random.next() % 16) * (random.next() % 50 == 0 ? 4096 : 64) & 0xfff8
        let length = Int(random.next() % 20) * 8 + (random.next() % 4 == 0 ? 3 : 0)
        let more = random.next() % 3 != 0
        let identification = UInt16(random.next() % 40)
        let isIPv6 = random.next() % 2 == 0
        let range = start..<start + length
        let mbuf =
          isIPv6
          ? try Self.fragment6(pool, range, more: more, identification: UInt32(identification))
          : try Self.fragment4(pool, range, more: more, identification: identification)
        let whole =
          isIPv6
          ? cdpdk_reassemble_ipv6(table, mbuf, now, 14, 54) : cdpdk_reassemble_ipv4(table, mbuf, now, 14)
        if random.next() % 8 == 0 { _ = cdpdk_reassembly_collect(table, now) }
        guard let whole else { continue }
        let linear = cdpdk_linearize(whole) == 0
        let offset = isIPv6 ? 54 : 34
        if linear {
          let count = Int(whole.pointee.data_len) - offset
          #expect(Self.hasPattern(whole, from: offset, count: count), "seed \(seed)")
        }
        cdpdk_free(whole)
      }
      cdpdk_reassembly_destroy(table)
      #expect(pool.inUse == 0, "seed \(seed)")
      pool.free()
    }
  }
}
