import IPsec
import Testing
import Wire

@testable import Routing

@Suite struct AdjacencyTests {
  private let source = MACAddress("02:00:00:00:00:01")!
  private let destination = MACAddress("0a:0b:0c:0d:0e:0f")!

  @Test func aRecordIsACacheLine() {
    #expect(MemoryLayout<Adjacency>.size == 64)
    #expect(MemoryLayout<Adjacency>.alignment == 8)
  }

  @Test(arguments: [("192.0.2.1", [UInt8(0x08), 0x00]), ("fe80::1", [0x86, 0xdd])])
  func theEthernetHeaderIsReadyMade(nextHop: String, etherType: [UInt8]) {
    let adjacency = Adjacency(
      nextHop: address(nextHop), port: 3, mtu: 1500, source: source, destination: destination)
    var packet = [UInt8](repeating: 0xee, count: 16)
    packet.withUnsafeMutableBytes { adjacency.writeEthernetHeader(to: $0.baseAddress!) }
    #expect(packet == destination.bytes + source.bytes + etherType + [0xee, 0xee])
    #expect(adjacency.nextHop == address(nextHop))
    #expect(adjacency.state == .reachable)
  }

  @Test func aFreedIndexComesBackOnlyAfterTheGracePeriod() throws {
    let reclaimer = HeldReclaimer()
    let pool = AdjacencyPool(capacity: 2, reclaimer: reclaimer)
    let first = try pool.allocate(Adjacency(kind: .local, port: 1))
    _ = try pool.allocate(Adjacency(kind: .glean, port: 1))
    #expect(throws: RoutingError.self) { try pool.allocate(Adjacency(kind: .local)) }
    pool.free(first)
    #expect(pool.table.adjacency(at: first).pointee.kind == .local, "a reader may still hold the index")
    #expect(throws: RoutingError.self) { try pool.allocate(Adjacency(kind: .local)) }
    reclaimer.release()
    #expect(pool.table.adjacency(at: first).pointee.kind == .noRoute)
    #expect(try pool.allocate(Adjacency(kind: .blackhole)) == first)
    #expect(pool.count == 2)
  }

  @Test func aReplacedRecordStaysReadableUntilTheGracePeriodEnds() throws {
    let reclaimer = HeldReclaimer()
    let pool = AdjacencyPool(capacity: 4, reclaimer: reclaimer)
    let index = try pool.allocate(
      Adjacency(nextHop: address("192.0.2.1"), port: 1, mtu: 1500, source: source, destination: nil))
    let held = pool.table.adjacency(at: index)
    #expect(held.pointee.state == .incomplete)
    pool.replace(
      index,
      with: Adjacency(nextHop: address("192.0.2.1"), port: 1, mtu: 1500, source: source, destination: destination))
    #expect(held.pointee.state == .incomplete)
    #expect(pool.table.adjacency(at: index).pointee.state == .reachable)
    #expect(pool.table.adjacency(at: 0).pointee.kind == .noRoute)
    reclaimer.release()
  }
}
