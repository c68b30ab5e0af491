import SeededRandom
import Testing
import Wire

@testable import Routing

@Suite struct ICMPErrorTests {
  private static let gateway4 = IPv4Address("192.0.2.254")!
  private static let gateway6 = IPv6Address("2001:db8::fe")!

  private func make4(
    _ reason: ICMPReason, _ packet: [UInt8], readable: Int? = nil, linkMulticast: Bool = false, capacity: Int = 2000
  ) -> [UInt8] {
    var message = [UInt8](repeating: 0xaa, count: 2000)
    let length = message.withUnsafeMutableBytes { out in
      packet.withUnsafeBytes {
        ICMPError.make(
          reason, aboutV4: $0.baseAddress!, length: readable ?? packet.count, source: Self.gateway4,
          identification: 7, isLinkMulticast: linkMulticast, into: out.baseAddress!, capacity: capacity)
      }
    }
    #expect(message[length...].allSatisfy { $0 == 0xaa })
    return Array(message[..<length])
  }

  private func make6(
    _ reason: ICMPReason, _ packet: [UInt8], readable: Int? = nil, linkMulticast: Bool = false
  ) -> [UInt8] {
    var message = [UInt8](repeating: 0xaa, count: 2000)
    let length = message.withUnsafeMutableBytes { out in
      packet.withUnsafeBytes {
        ICMPError.make(
          reason, aboutV6: $0.baseAddress!, length: readable ?? packet.count, source: Self.gateway6,
          isLinkMulticast: linkMulticast, into: out.baseAddress!, capacity: 2000)
      }
    }
    #expect(message[length...].allSatisfy { $0 == 0xaa })
    return Array(message[..<length])
  }

  @Test func timeExceededQuotesThePacket() throws {
    let packet = Packet.v4(tos: 0xb9, payload: [UInt8](0..<100))
    let message = make4(.timeExceeded, packet)
    try message.withUnsafeBytes {
      let header = try #require(IPv4Header($0.baseAddress!, length: $0.count))
      #expect(header.isChecksumValid)
      #expect(header.totalLength == 28 + packet.count)
      #expect(header.source == Self.gateway4)
      #expect(header.destination == IPv4Address("192.0.2.1"))
      #expect(header.ipProtocol == IPProtocol.icmp)
      #expect(header.typeOfService == 0xd8)
      #expect(header.identification == 7)
      #expect(InternetChecksum.of(header.payload, count: header.payloadLength) == 0)
    }
    #expect(Array(message[20..<22]) == [11, 0])
    #expect(Array(message[28...]) == packet)
  }

  @Test(arguments: [
    (ICMPReason.networkUnreachable, [UInt8(3), 0], [UInt8(0), 0, 0, 0]),
    (.hostUnreachable, [3, 1], [0, 0, 0, 0]),
    (.protocolUnreachable(), [3, 2], [0, 0, 0, 0]),
    (.portUnreachable, [3, 3], [0, 0, 0, 0]),
    (.tooBig(mtu: 1400), [3, 4], [0, 0, 0x05, 0x78]),
    (.tooBig(mtu: 1), [3, 4], [0, 0, 0, 68]),
    (.prohibited, [3, 13], [0, 0, 0, 0]),
    (.reassemblyTimeExceeded, [11, 1], [0, 0, 0, 0]),
    (.parameterProblem(pointer: 20), [12, 0], [20, 0, 0, 0]),
  ])
  func typesAndCodesOfIPv4(reason: ICMPReason, typeAndCode: [UInt8], rest: [UInt8]) {
    let message = make4(reason, Packet.v4(payload: [UInt8](repeating: 1, count: 8)))
    #expect(Array(message[20..<22]) == typeAndCode)
    #expect(Array(message[24..<28]) == rest)
  }

  @Test(arguments: [
    (ICMPReason.networkUnreachable, [UInt8(1), 0], [UInt8(0), 0, 0, 0]),
    (.prohibited, [1, 1], [0, 0, 0, 0]),
    (.hostUnreachable, [1, 3], [0, 0, 0, 0]),
    (.portUnreachable, [1, 4], [0, 0, 0, 0]),
    (.tooBig(mtu: 1400), [2, 0], [0, 0, 0x05, 0x78]),
    (.tooBig(mtu: 600), [2, 0], [0, 0, 0x05, 0]),
    (.timeExceeded, [3, 0], [0, 0, 0, 0]),
    (.reassemblyTimeExceeded, [3, 1], [0, 0, 0, 0]),
    (.parameterProblem(pointer: 300), [4, 0], [0, 0, 1, 44]),
    (.protocolUnreachable(pointer: 40), [4, 1], [0, 0, 0, 40]),
    (.unrecognizedOption(pointer: 42), [4, 2], [0, 0, 0, 42]),
  ])
  func typesAndCodesOfIPv6(reason: ICMPReason, typeAndCode: [UInt8], rest: [UInt8]) throws {
    let packet = Packet.v6(payload: [UInt8](0..<33))
    let message = make6(reason, packet)
    #expect(Array(message[40..<42]) == typeAndCode)
    #expect(Array(message[44..<48]) == rest)
    #expect(Array(message[48...]) == packet)
    try message.withUnsafeBytes {
      let header = try #require(IPv6Header($0.baseAddress!, length: $0.count))
      #expect(header.totalLength == message.count)
      #expect(header.source == Self.gateway6)
      #expect(header.destination == IPv6Address("2001:db8::1"))
      var sum = InternetChecksum()
      sum.addPseudoHeader(
        source: header.source, destination: header.destination, ipProtocol: IPProtocol.icmpv6,
        length: UInt32(header.payloadLength))
      sum.add(header.payload, count: header.payloadLength)
      #expect(sum.value == 0)
    }
  }

  @Test func messagesAreNoLongerThanAllowed() {
    let long = [UInt8](repeating: 5, count: 3000)
    #expect(make4(.timeExceeded, Packet.v4(payload: long)).count == 576)
    #expect(make6(.timeExceeded, Packet.v6(payload: long)).count == 1280)
    #expect(make4(.timeExceeded, Packet.v4(payload: long), readable: 100).count == 128)
    #expect(make6(.timeExceeded, Packet.v6(payload: long), readable: 100).count == 148)
    #expect(make4(.timeExceeded, Packet.v4(payload: long), capacity: 40).isEmpty)
    // Ethernet's padding is not quoted.
    #expect(make4(.timeExceeded, Packet.v4(payload: [1, 2]) + [UInt8](repeating: 0, count: 24)).count == 50)
  }

  @Test func noErrorAboutWhatTheRFCsForbid() {
    let data = [UInt8](repeating: 8, count: 16)
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.1.1.1"] {
      #expect(make4(.timeExceeded, Packet.v4(from: source, payload: data)).isEmpty, "\(source)")
    }
    for destination in ["224.0.0.1", "255.255.255.255"] {
      #expect(make4(.timeExceeded, Packet.v4(to: destination, payload: data)).isEmpty, "\(destination)")
    }
    #expect(make4(.timeExceeded, Packet.v4(payload: data), linkMulticast: true).isEmpty)
    #expect(make4(.timeExceeded, Packet.v4(fragmentField: 1, payload: data)).isEmpty)
    #expect(!make4(.timeExceeded, Packet.v4(fragmentField: 0x2000, payload: data)).isEmpty, "the first fragment")
    for type: UInt8 in [3, 4, 5, 11, 12] {
      #expect(make4(.timeExceeded, Packet.v4(ipProtocol: IPProtocol.icmp, payload: [type, 0, 0, 0])).isEmpty)
    }
    for type: UInt8 in [0, 8, 13] {
      #expect(!make4(.timeExceeded, Packet.v4(ipProtocol: IPProtocol.icmp, payload: [type, 0, 0, 0])).isEmpty)
    }
    #expect(make4(.timeExceeded, Packet.v4(ipProtocol: IPProtocol.icmp, payload: [])).isEmpty)
  }

  @Test func noErrorAboutWhatTheRFCsForbidInIPv6() {
    let data = [UInt8](repeating: 8, count: 16)
    for source in ["::", "::1", "ff02::1", "::ffff:192.0.2.1"] {
      #expect(make6(.timeExceeded, Packet.v6(from: source, payload: data)).isEmpty, "\(source)")
    }
    #expect(!make6(.timeExceeded, Packet.v6(from: "fe80::9", payload: data)).isEmpty)
    let group = Packet.v6(to: "ff02::1", payload: data)
    #expect(make6(.timeExceeded, group).isEmpty)
    #expect(!make6(.tooBig(mtu: 1400), group).isEmpty)
    #expect(!make6(.unrecognizedOption(pointer: 42), group).isEmpty)
    #expect(make6(.parameterProblem(pointer: 42), group).isEmpty)
    #expect(make6(.timeExceeded, Packet.v6(payload: data), linkMulticast: true).isEmpty)
    for type: UInt8 in [1, 2, 3, 4, 100, 127, 137] {
      let error = Packet.v6(next: IPProtocol.icmpv6, payload: [type] + data)
      #expect(make6(.timeExceeded, error).isEmpty, "\(type)")
      #expect(make6(.timeExceeded, error, readable: 50).isEmpty, "\(type)")
      let behindOptions: [UInt8] = [IPProtocol.icmpv6, 0, 1, 4, 0, 0, 0, 0, type, 0, 0, 0]
      #expect(make6(.timeExceeded, Packet.v6(next: IPProtocol.destinationOptions, payload: behindOptions)).isEmpty)
    }
    #expect(!make6(.timeExceeded, Packet.v6(next: IPProtocol.icmpv6, payload: [128] + data)).isEmpty)
    let laterFragment: [UInt8] = [IPProtocol.icmpv6, 0, 0, 8, 0, 0, 0, 1] + data
    #expect(make6(.timeExceeded, Packet.v6(next: IPProtocol.fragment, payload: laterFragment)).isEmpty)
    let laterUDP: [UInt8] = [IPProtocol.udp, 0, 0, 8, 0, 0, 0, 1] + data
    #expect(!make6(.tooBig(mtu: 1280), Packet.v6(next: IPProtocol.fragment, payload: laterUDP)).isEmpty)
  }

  @Test func anyBytesAreHandled() {
    var generator = SeededGenerator.printed("ICMPError hostile")
    for _ in 0..<5000 {
      var bytes = Packet.random(Int.random(in: 1...120, using: &generator), using: &generator)
      bytes[0] = bytes[0] & 15 | (Bool.random(using: &generator) ? 0x40 : 0x60)
      let readable = Int.random(in: 0...bytes.count, using: &generator)
      #expect(make4(.tooBig(mtu: 0), bytes, readable: readable).count <= 576)
      #expect(make6(.tooBig(mtu: .max), bytes, readable: readable).count <= 1280)
    }
  }

  @Test func theBucketHoldsABurstAndFillsAtItsRate() {
    final class Bucket {
      var value = TokenBucket(perSecond: 10, burst: 5, ticksPerSecond: 1000)
      func take(now: UInt64) -> Bool { value.take(now: now) }
    }
    let bucket = Bucket()
    let start: UInt64 = 1_000_000
    #expect((0..<9).filter { _ in bucket.take(now: start) }.count == 5)
    #expect(!bucket.take(now: start + 99))
    #expect(bucket.take(now: start + 100))
    #expect(!bucket.take(now: start + 100))
    #expect((0..<100).filter { bucket.take(now: start + 100 + UInt64($0) * 10) }.count == 9)
    #expect((0..<9).filter { _ in bucket.take(now: start + 1_000_000) }.count == 5)
    #expect(bucket.take(now: 0), "a clock that jumped back")
  }
}
