import CDPDK
import Foundation
import Testing

@testable import DPDK

extension DPDKTests {
  @Suite struct MbufRingTests {
    @Test func fifoAndBounds() throws {
      let pool = try TestEAL.pool("fifo")
      defer { pool.free() }
      let ring = try MbufRing(name: "fifo", capacity: 100, mode: [.singleProducer, .singleConsumer])
      #expect(ring.capacity >= 100)
      var mbufs: [Mbuf?] = (0..<200).map { _ in pool.allocate() }
      let taken = ring.enqueue(&mbufs, 200)
      #expect(taken == ring.capacity && ring.count == taken)
      var out = [Mbuf?](repeating: nil, count: 200)
      #expect(ring.dequeue(&out, 32) == 32)
      #expect(Array(out[..<32]) == Array(mbufs[..<32]))
      cdpdk_free_bulk(&out, 32)
      var rest = Array(mbufs[taken...])
      cdpdk_free_bulk(&rest, UInt32(rest.count))
      ring.free()
      #expect(pool.inUse == 0)
      #expect(throws: MempoolError.self) { try MbufRing(name: "none", capacity: 0, mode: []) }
    }

    @Test func manyProducersLoseNothing() async throws {
      let pool = try TestEAL.pool("many", capacity: 2047)
      defer { pool.free() }
      let ring = try MbufRing(name: "many", capacity: 64, mode: .singleConsumer)
      let rounds = 20_000
      let producers = (0..<2).map { _ in
        let thread = Thread {
          var sent = 0
          while sent < rounds {
            guard var mbuf = pool.allocate() as Mbuf? else { continue }
            withUnsafeMutablePointer(to: &mbuf) { pointer in
              pointer.withMemoryRebound(to: Mbuf?.self, capacity: 1) { burst in
                while ring.enqueue(burst, 1) == 0 { sched_yield() }
              }
            }
            sent += 1
          }
        }
        thread.start()
        return thread
      }
      var received = 0
      var burst = [Mbuf?](repeating: nil, count: 32)
      let deadline = Date(timeIntervalSinceNow: 60)
      while received < 2 * rounds, Date() < deadline {
        let count = ring.dequeue(&burst, 32)
        if count == 0 { sched_yield() }
        cdpdk_free_bulk(&burst, UInt32(count))
        received += count
      }
      #expect(received == 2 * rounds)
      while producers.contains(where: { !$0.isFinished }) { usleep(1000) }
      ring.free()
      #expect(pool.inUse == 0)
    }
  }
}
