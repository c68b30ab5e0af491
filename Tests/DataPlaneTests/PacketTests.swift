import Testing

@testable import DataPlane

/// The words that stand for several fields of a packet at once.
@Suite struct PacketTests {
  @Test func wordsLieWhereTheFieldsDo() {
    #expect(MemoryLayout<Packet>.stride == 128)
    #expect(MemoryLayout<Packet>.offset(of: \.payloadOffset) == PacketHeader.offset)
    #expect(MemoryLayout<Packet>.offset(of: \.depth) == PacketHeader.offset + 7)
    #expect(MemoryLayout<Packet>.offset(of: \.isFragment) == PacketMarks.offset)
    #expect(MemoryLayout<Packet>.offset(of: \.dontFragment) == PacketMarks.offset + 3)
    #expect(MemoryLayout<Packet>.offset(of: \.key) == 64)
  }

  @Test func wordsSayWhatTheFieldsSay() {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 64)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: 0xff, count: 128)
    let packet = memory.assumingMemoryBound(to: Packet.self)
    var header = PacketHeader(port: 0x1234, origin: .host, depth: 2)
    header.parsed(payloadOffset: 0x2829, ipProtocol: 50, version: 6)
    packet.header = header
    #expect(packet.pointee.port == 0x1234 && packet.pointee.origin == .host && packet.pointee.depth == 2)
    #expect(packet.pointee.payloadOffset == 0x2829)
    #expect(packet.pointee.ipProtocol == 50 && packet.pointee.version == 6)
    packet.header = SimpleIPv4.header(opened: header)
    #expect(packet.pointee.port == 0x1234 && packet.pointee.origin == .tunnel && packet.pointee.depth == 1)
    #expect(packet.pointee.payloadOffset == 20 && packet.pointee.ipProtocol == 0 && packet.pointee.version == 4)

    for fragment in [false, true] {
      for whole in [false, true] {
        packet.marks = PacketMarks.word(isFragment: fragment, trafficClass: 0xb8, dontFragment: whole)
        #expect(packet.pointee.isFragment == fragment && packet.pointee.dontFragment == whole)
        #expect(PacketMarks.trafficClass(packet.marks) == 0xb8)
        #expect(PacketMarks.dontFragment(packet.marks) == (whole ? 1 : 0))
        #expect(packet.pointee.trafficClass == 0xb8 && !packet.pointee.isEncapsulated)
        #expect((packet.marks & PacketMarks.unusual != 0) == fragment)
        packet.pointee.isEncapsulated = true
        #expect(packet.marks & PacketMarks.unusual != 0)
      }
    }
  }
}
