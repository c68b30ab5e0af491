import CLayout
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

/// The usual header's own parser beside the one for all.
@Suite struct SimpleIPv4Tests {
  /// An IPv4 packet of `length` bytes that is right, and then in one or two ways perhaps not.
  static func packet(_ generator: inout SeededGenerator, length: Int) -> [UInt8] {
    let number = [6, 17, 50, 1, 51, 4, 108, UInt8.random(in: 0...255, using: &generator)].randomElement(
      using: &generator)!
    var packet = Packets.ip(
      from: "10.\(generator.below(256)).2.3", to: "192.0.\(generator.below(256)).9", number: number,
      payload: generator.bytes(max(length - 20, 0)), trafficClass: UInt8(generator.below(256)),
      dontFragment: Bool.random(using: &generator))
    if packet.count >= 24, generator.below(4) == 0 { packet.replaceSubrange(22..<24, with: [0x11, 0x94]) }
    if generator.below(4) == 0 { packet += generator.bytes(generator.below(20)) }
    for _ in 0..<generator.below(3) {
      packet[generator.below(20)] = UInt8(generator.below(256))
      if Bool.random(using: &generator) { packet = Packets.summed(packet) }
    }
    return Array(packet.prefix(generator.below(8) == 0 ? generator.below(packet.count + 1) : packet.count))
  }

  /// A record of that packet, as `IPParser` fills it.
  static func parsed(
    _ ip: UnsafeMutableRawPointer, _ length: Int, _ record: PacketPointer, port: Int = 3
  ) -> DropReason? {
    record.pointee.ip = ip
    record.pointee.length = Int32(length)
    record.header = PacketHeader(port: port, origin: .clear)
    record.marks = 0
    return IPParser.ipv4(record)
  }

  @Test func whatIsPlainIsParsedAlike() throws {
    var generator = SeededGenerator()
    let records = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 64)
    // Eight bytes may be read of any packet.
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 64)
    defer {
      records.deallocate()
      bytes.deallocate()
    }
    let (general, own) = (
      records.assumingMemoryBound(to: Packet.self), (records + 128).assumingMemoryBound(to: Packet.self)
    )
    var plainOnes = 0
    for round in 0..<100_000 {
      let comment: Comment = "seed \(generator.seed), round \(round)"
      let packet = Self.packet(&generator, length: Int.random(in: 20...120, using: &generator))
      records.initializeMemory(as: UInt8.self, repeating: 0xff, count: 256)
      bytes.copyMemory(from: packet, byteCount: packet.count)
      let reason = Self.parsed(bytes, packet.count, general)
      guard let plain = SimpleIPv4(bytes, length: packet.count) else {
        let isUsual =
          reason == nil && general.pointee.payloadOffset == 20 && !general.pointee.isFragment
          && general.pointee.length >= 28
        #expect(!isUsual, comment)
        continue
      }
      plainOnes += 1
      plain.record(own, SimpleIPv4.header(port: 3, origin: .clear, depth: 0))
      plain.recordKey(own, rest: FlowCache.rest(&general.pointee.key))
      #expect(reason == nil, comment)
      #expect(own.header.word == general.header.word && own.marks == general.marks, comment)
      #expect(own.pointee.length == general.pointee.length, comment)
      let keys = withUnsafeBytes(of: &own.pointee.key) { a in
        withUnsafeBytes(of: &general.pointee.key) { b in (Array(a), Array(b)) }
      }
      #expect(keys.0 == keys.1, comment)
      #expect(
        FlowCache.hash(addresses: plain.addresses, FlowCache.rest(&own.pointee.key))
          == FlowCache.hash(&own.pointee.key), comment)
    }
    #expect(plainOnes > 10_000)
  }
}

extension DataPlaneTests {
  /// What waits where after it was received, and with what.
  @Suite(.serialized) struct SortingTests {
    @Test func packetsWaitWhereTheyBelong() throws {
      var generator = SeededGenerator()
      let gateway = try TestGateway(own: ["10.0.0.1/24"], far: [], neighbors: [])
      let used = TestGateway.buffersInUse
      let memory = UnsafeMutableRawPointer.allocate(byteCount: 384, alignment: 64)
      defer { memory.deallocate() }
      let general = (memory + 256).assumingMemoryBound(to: Packet.self)
      for round in 0..<2000 {
        let comment: Comment = "seed \(generator.seed), round \(round)"
        let packets = (0..<Int.random(in: 1...32, using: &generator)).map { _ in
          SimpleIPv4Tests.packet(&generator, length: Int.random(in: 20...120, using: &generator))
        }
        let sorted = gateway.sort(packets)
        var (inbound, policy) = (sorted.inbound[...], sorted.policy[...])
        for packet in packets {
          memory.copyMemory(from: packet, byteCount: packet.count)
          if SimpleIPv4Tests.parsed(memory, packet.count, general, port: 0) != nil { continue }
          let number = general.pointee.ipProtocol
          let isIPsec =
            [4, 41, 50, 51, 108].contains(number) || number == 17 && general.pointee.key.destination_port == 4500
          var record = try #require(isIPsec ? inbound.popFirst() : policy.popFirst(), comment)
          #expect(record.ipProtocol == number && record.length == general.pointee.length, comment)
          #expect(record.payloadOffset == general.pointee.payloadOffset, comment)
          #expect(record.trafficClass == general.pointee.trafficClass, comment)
          #expect(record.isFragment == general.pointee.isFragment && record.sa == nil, comment)
          if !isIPsec {
            #expect(record.hash == FlowCache.hash(&general.pointee.key), comment)
            #expect(FlowCache.rest(&record.key) == FlowCache.rest(&general.pointee.key), comment)
          } else if record.hash != 0 {
            #expect(number == 50 && record.payloadOffset == 20 && !record.isFragment, comment)
            let spi = UInt64(UnsafeRawPointer(memory).loadUnaligned(fromByteOffset: 20, as: UInt32.self))
            #expect(record.hash == spi << 32 | general.pointee.key.destination_low, comment)
          } else {
            let isPlain =
              number == 50 && record.payloadOffset == 20 && !record.isFragment && record.length >= 28
            #expect(!isPlain, comment)
          }
        }
        #expect(inbound.isEmpty && policy.isEmpty, comment)
      }
      #expect(TestGateway.buffersInUse == used)
    }

    /// ESP for others has a key of its own, whatever its record was before.
    @Test func espForOthersIsForwarded() throws {
      let gateway = try TestGateway(
        own: ["10.0.0.1/24", "2001:db8::1/64"], far: [], neighbors: ["10.0.0.2", "10.0.0.3", "2001:db8::2"])
      let first = Packets.udp(from: "2001:db8::3", to: "2001:db8::2", payload: [1, 2, 3])
      let esp = Packets.ip(from: "10.0.0.2", to: "10.0.0.3", number: 50, payload: Array(0..<60))
      let other = Packets.ip(from: "10.0.0.3", to: "10.0.0.2", number: 50, payload: Array(0..<60))
      for _ in 0..<2 {
        let outcome = gateway.receive([first])
        #expect(outcome.sent == [Packets.forwarded(first, hops: 1)] && outcome.drops == [:])
        let forwarded = gateway.receive([esp, other, esp])
        #expect(forwarded.sent == [esp, other, esp].map { Packets.forwarded($0, hops: 1) } && forwarded.drops == [:])
      }
      let own = Packets.ip(from: "10.0.0.2", to: "10.0.0.1", number: 50, payload: Array(0..<60))
      #expect(gateway.receive([own]).drops == [.noSA: 1])
    }
  }
}
