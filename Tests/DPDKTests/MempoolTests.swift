import CDPDK
import Foundation
import Testing

@testable import DPDK

extension DPDKTests {
  @Suite struct MempoolTests {
    @Test func mbufLayout() throws {
      let pool = try TestEAL.pool("layout")
      defer { pool.free() }
      let mbuf = try #require(pool.allocate())
      #expect(mbuf.pointee.data_off == 128 && mbuf.headroom == 128 && mbuf.pointee.nb_segs == 1)
      #expect(mbuf.pointee.priv_size == UInt16(Mempool.privateSize))
      #expect(mbuf.privateArea == cdpdk_mbuf_priv(mbuf))
      #expect(mbuf.privateArea + Mempool.privateSize == mbuf.pointee.buf_addr)
      #expect(UInt(bitPattern: mbuf.privateArea) % 64 == 0)
      #expect(mbuf.data == cdpdk_mbuf_data(mbuf) && mbuf.tailroom == Int(pool.dataRoom) - 128)
      mbuf.setLength(100)
      mbuf.prepend(72)
      #expect(mbuf.headroom == 56 && mbuf.pointee.data_len == 172 && mbuf.pointee.pkt_len == 172)
      mbuf.trimFront(100)
      #expect(mbuf.headroom == 156 && mbuf.pointee.data_len == 72)
      cdpdk_reset(mbuf)
      #expect(mbuf.headroom == 128 && mbuf.pointee.pkt_len == 0)
      cdpdk_free(mbuf)
      #expect(pool.inUse == 0)
    }

    @Test func countsReturn() throws {
      let pool = try TestEAL.pool("counts", capacity: 255)
      defer { pool.free() }
      #expect(pool.available == 255 && pool.inUse == 0)
      var mbufs: [Mbuf?] = []
      while let mbuf = pool.allocate() { mbufs.append(mbuf) }
      #expect(mbufs.count == 255 && pool.available == 0 && pool.inUse == 255)
      var burst = [Mbuf?](repeating: nil, count: 8)
      #expect(cdpdk_alloc_bulk(pool.base, &burst, 8) < 0)
      cdpdk_free_bulk(&mbufs, 255)
      #expect(pool.available == 255)
      #expect(cdpdk_alloc_bulk(pool.base, &burst, 8) == 0 && pool.inUse == 8)
      cdpdk_free_bulk(&burst, 8)
      #expect(pool.inUse == 0)
    }

    @Test func chainsCopyAndLinearize() throws {
      let pool = try TestEAL.pool("chains")
      defer { pool.free() }
      let head = try #require(pool.allocate())
      let tail = try #require(pool.allocate())
      for (mbuf, byte) in [(head, 0x11), (tail, 0x22)] {
        mbuf.setLength(500)
        memset(mbuf.data, Int32(byte), 500)
      }
      #expect(cdpdk_chain(head, tail) == 0)
      #expect(head.pointee.nb_segs == 2 && head.pointee.pkt_len == 1000)
      let copy = try #require(cdpdk_copy(head, pool.base, 0, UInt32.max))
      #expect(copy.pointee.pkt_len == 1000 && copy.pointee.nb_segs == 1)
      #expect(cdpdk_linearize(head) == 0 && head.pointee.nb_segs == 1)
      #expect(memcmp(head.data, copy.data, 1000) == 0)
      cdpdk_free(head)
      cdpdk_free(copy)
      #expect(pool.inUse == 0)
    }

    @Test func sizes() throws {
      #expect(try Mempool.dataRoom(mtu: 1500) == 128 + 2048)
      #expect(try Mempool.dataRoom(mtu: 9600) >= 128 + 9600 + 26)
      #expect(throws: MempoolError.self) { try Mempool.dataRoom(mtu: 9701) }
      #expect(throws: MempoolError.self) { try Mempool.dataRoom(mtu: 67) }
      #expect(Mempool.capacity(ports: 2, queues: 2, descriptors: 1024, workers: 2) == 8191)
      let wide = try Mempool(name: "wide", capacity: 63, mtu: 9600)
      let mbuf = try #require(wide.allocate())
      #expect(mbuf.tailroom >= 9600 + 14)
      cdpdk_free(mbuf)
      wide.free()
    }

    @Test func errors() throws {
      let pool = try TestEAL.pool("twice")
      defer { pool.free() }
      #expect(throws: MempoolError.invalid("a pool named twice exists")) { try Mempool(name: "twice", capacity: 63) }
      #expect(throws: MempoolError.self) { try Mempool(name: String(repeating: "n", count: 40), capacity: 63) }
      #expect(throws: MempoolError.self) { try Mempool(name: "none", capacity: 0) }
      let error = #expect(throws: MempoolError.self) { try Mempool(name: "huge", capacity: 4_000_000) }
      #expect(error.map { "\($0)".contains("hugepages") } == true)
    }
  }
}
