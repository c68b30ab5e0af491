import CDPDK
import CLayout
import DPDK
import Engines
import Foundation
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// The bound of a worker's arrays.
  @Suite(.serialized) struct WorkerArraysTests {
    /// Whether a byte may be read: the kernel says so without a trap.
    private static func isReadable(_ address: UnsafeRawPointer) -> Bool {
      var ends: [Int32] = [0, 0]
      guard pipe(&ends) == 0 else { return false }
      defer { for end in ends { close(end) } }
      return write(ends[1], address, 1) == 1
    }

    /// The build for tests has them.
    @Test func everyArrayEndsAtAGuardPage() throws {
      #expect(NodeMemory.hasGuards)
      let gateway = try Pair().a
      let w = gateway.worker
      let capacity = w.pointee.records.capacity
      #expect(capacity >= HandoffMemory.mostPackets * 8)
      func expectGuard<T>(_ array: UnsafeMutablePointer<T>, _ count: Int, _ name: Comment) {
        let end = UnsafeRawPointer(array + count)
        #expect(Self.isReadable(end - 1) && !Self.isReadable(end), name)
      }
      let burst = try TestEAL.shared.get().configuration.burst
      expectGuard(w.pointee.received, max(burst, HandoffMemory.burst), "received")
      expectGuard(w.pointee.records.base, capacity, "records")
      expectGuard(w.pointee.jobs, capacity, "jobs")
      expectGuard(w.pointee.freed, Worker.txCapacity, "freed")
      expectGuard(w.pointee.pieceBuffers, Worker.maximumPieces, "piece buffers")
      for list in [w.pointee.inbound, w.pointee.policy, w.pointee.outbound, w.pointee.pieces] {
        expectGuard(list.base, capacity, "list")
      }
      for list in [w.pointee.transmit, w.pointee.jobPackets] { expectGuard(list.base, capacity, "list") }
      expectGuard(w.pointee.scratch.layers, capacity * ProtocolScratch.layersPerPacket, "layers")
      let images = w.pointee.scratch.images.assumingMemoryBound(to: UInt8.self)
      expectGuard(images, capacity * KeptImage.stride, "images")
      expectGuard(w.pointee.ports[0].tx, capacity + Worker.txCapacity, "tx")
      expectGuard(w.pointee.handoff.jobs, HandoffMemory.mostPackets, "handed jobs")
      expectGuard(w.pointee.handoff.packets.base, HandoffMemory.mostPackets, "handed packets")
      expectGuard(w.pointee.handoff.borrowed, HandoffMemory.burst, "borrowed jobs")
    }

    @Test func recordsRunOut() {
      let memory = UnsafeMutablePointer<Packet>.allocate(capacity: 4)
      defer { memory.deallocate() }
      var records = PacketRecords(base: memory, capacity: 4)
      #expect(records.take(3) == memory && !records.hasRoom(2) && records.take(2) == nil && records.count == 3)
      #expect(records.take(1) == memory + 3 && records.take(1) == nil && records.take(0) == memory + 4)
      records.release(keeping: 1)
      #expect(records.count == 1 && records.take(4) == nil && records.take(3) == memory + 1)
    }

    /// Whoever gets no record drops what it is for, and counts it.
    @Test func withoutRecordsPacketsAreDropped() throws {
      let used = TestGateway.buffersInUse
      let pair = try Pair(mtu: 1500)
      let gateway = pair.a
      let large = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [UInt8](repeating: 1, count: 8000))
      let dying = Packets.summed(large.enumerated().map { $0.offset == 8 ? 1 : $0.element })
      let capacity = gateway.worker.pointee.records.capacity
      func receive(_ packets: [[UInt8]], free: Int) -> TestGateway.Outcome {
        precondition(gateway.worker.pointee.records.take(capacity - free) != nil)
        gateway.worker.pointee.handoff.recordCount = capacity - free
        defer {
          gateway.worker.pointee.handoff.recordCount = 0
          gateway.worker.pointee.records.release(keeping: 0)
        }
        return gateway.receive(packets)
      }
      #expect(receive([large, large], free: 1).drops == [.noRecord: 2])
      // Pieces for the link leave at once, those for an SA do not.
      #expect(receive([large], free: 1).sent.count == 6)
      // It dies unanswered.
      let unanswered = receive([dying], free: 1)
      #expect(unanswered.drops == [.ttlExpired: 1] && unanswered.sent.isEmpty)
      #expect(receive([dying], free: 2).sent.count == 1)
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      #expect(receive([large], free: 6).drops == [.fragmentLimit: 1])
      #expect(receive([large], free: 7).sent.count == 6)
      #expect(TestGateway.buffersInUse == used)
    }

    /// A dummy packet is no IP packet that could be cut, however narrow the way.
    @Test func dummiesAreNotCut() throws {
      let used = TestGateway.buffersInUse
      let pair = try Pair()
      let sa = Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))
      try pair.add([sa], for: Pair.subnets(.v4))
      let record = try #require(pair.a.security.sad.lookup(spi: sa.spi, destination: sa.destination, saProtocol: 50))
      for (mtu, drops) in [(UInt32(576), [DropReason.fragmentNeeded: UInt64(1)]), (1500, [:])] {
        record.pathMTUAtomic.pointee.store(mtu, ordering: .relaxed)
        let outcome = pair.a.sendDummy(sa, length: 1200)
        #expect(outcome.drops == drops && outcome.sent.count == (drops.isEmpty ? 1 : 0))
        #expect(pair.a.worker.pointee.pieces.count == 0)
        if mtu == 1500 { #expect(pair.b.receive(outcome.sent).drops == [.espDummy: 1]) }
      }
      #expect(TestGateway.buffersInUse == used)
    }
  }
}
