import SeededRandom
import Wire

extension SeededGenerator {
  /// Half of it text that repeats itself.
  mutating func content(_ count: Int) -> [UInt8] {
    if Bool.random(using: &self) { return bytes(count) }
    let words = ["tunnel ", "transport ", "10.1.", "GET / ", "\0\0\0\0"].map { Array($0.utf8) }
    var content: [UInt8] = []
    while content.count < count { content += words.randomElement(using: &self)! }
    return Array(content.prefix(count))
  }
}

/// IP packets as arrays of bytes.
enum Packets {
  /// UDP with a right checksum.
  static func udp(
    from source: String, to destination: String, payload: [UInt8], trafficClass: UInt8 = 0, dontFragment: Bool = false,
    options: [UInt8] = [], ports: (UInt16, UInt16) = (1000, 2000)
  ) -> [UInt8] {
    var datagram = [UInt8](repeating: 0, count: 8) + payload
    let ends = (IPAddress(source)!, IPAddress(destination)!)
    datagram.withUnsafeMutableBytes { bytes in
      let base = bytes.baseAddress!
      base.setBig16(ports.0, at: 0)
      base.setBig16(ports.1, at: 2)
      base.setBig16(UInt16(truncatingIfNeeded: bytes.count), at: 4)
      var sum = InternetChecksum()
      switch ends {
      case (.v4(let from), .v4(let to)):
        sum.addPseudoHeader(source: from, destination: to, ipProtocol: 17, length: UInt16(bytes.count))
      case (.v6(let from), .v6(let to)):
        sum.addPseudoHeader(source: from, destination: to, ipProtocol: 17, length: UInt32(bytes.count))
      default: fatalError("families")
      }
      sum.add(base, count: bytes.count)
      base.setBig16(sum.udpValue, at: 6)
    }
    return ip(
      from: source, to: destination, number: 17, payload: datagram, trafficClass: trafficClass,
      dontFragment: dontFragment, options: options)
  }

  /// `options`: of IPv4, a multiple of 4 bytes.
  static func ip(
    from source: String, to destination: String, number: UInt8, payload: [UInt8], trafficClass: UInt8 = 0,
    dontFragment: Bool = false, options: [UInt8] = []
  ) -> [UInt8] {
    switch (IPAddress(source)!, IPAddress(destination)!) {
    case (.v4(let from), .v4(let to)):
      var packet = [UInt8](repeating: 0, count: 20) + options + payload
      packet.withUnsafeMutableBytes { bytes in
        IPv4Header.write(
          bytes.baseAddress!, source: from, destination: to, ipProtocol: number, totalLength: bytes.count,
          typeOfService: trafficClass, identification: 0x1234, fragmentField: dontFragment ? 0x4000 : 0)
        bytes[0] = 0x45 + UInt8(options.count / 4)
        IPv4Header.setChecksum(bytes.baseAddress!, headerLength: 20 + options.count)
      }
      return packet
    case (.v6(let from), .v6(let to)):
      var packet = [UInt8](repeating: 0, count: 40) + payload
      packet.withUnsafeMutableBytes { bytes in
        IPv6Header.write(
          bytes.baseAddress!, source: from, destination: to, nextHeader: number, payloadLength: payload.count,
          trafficClass: trafficClass, flowLabel: 0xabcde)
      }
      return packet
    default: fatalError("families")
    }
  }

  /// Its fragments as a sender makes them: the first has so many bytes of payload, as the others but the last.
  static func cut(_ packet: [UInt8], payload: Int, identification: UInt32? = nil) -> [[UInt8]] {
    let isV6 = packet[0] >> 4 == 6
    let header = isV6 ? 40 : Int(packet[0] & 15) * 4
    let places = stride(from: header, to: packet.count, by: payload).map { $0..<min($0 + payload, packet.count) }
    return places.map { place in
      fragment(
        of: packet, place, offset: place.lowerBound - header, hasMore: place.upperBound < packet.count,
        identification: identification)
    }
  }

  /// Bytes `range` of a packet without options as a fragment that says to be at `offset`.
  static func fragment(
    of packet: [UInt8], _ range: Range<Int>, offset: Int, hasMore: Bool, identification: UInt32? = nil
  ) -> [UInt8] {
    guard packet[0] >> 4 == 6 else {
      var piece = Array(packet[..<(Int(packet[0] & 15) * 4)] + packet[range])
      let field = UInt16(offset / 8) | (hasMore ? 0x2000 : 0)
      piece.replaceSubrange(2..<4, with: bytes(UInt16(piece.count)))
      if let identification { piece.replaceSubrange(4..<6, with: bytes(UInt16(truncatingIfNeeded: identification))) }
      piece.replaceSubrange(6..<8, with: bytes(field))
      return summed(piece)
    }
    let field = UInt16(offset) | (hasMore ? 1 : 0)
    var piece = Array(packet[..<40]) + [packet[6], 0] + bytes(field)
    let number = identification ?? 0x77
    piece += bytes(UInt16(number >> 16)) + bytes(UInt16(truncatingIfNeeded: number))
    piece += packet[range]
    piece[6] = IPProtocol.fragment
    piece.replaceSubrange(4..<6, with: bytes(UInt16(piece.count - 40)))
    return piece
  }

  private static func bytes(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)] }

  /// As it leaves `hops` routers.
  static func forwarded(_ packet: [UInt8], hops: UInt8) -> [UInt8] {
    var packet = packet
    packet.withUnsafeMutableBytes { bytes in
      if bytes[0] >> 4 == 4 {
        bytes[8] -= hops
        IPv4Header.setChecksum(bytes.baseAddress!, headerLength: Int(bytes[0] & 15) * 4)
      } else {
        bytes[7] -= hops
      }
    }
    return packet
  }

  /// The checksum of an IPv4 header after bytes of it were changed.
  static func summed(_ packet: [UInt8]) -> [UInt8] { forwarded(packet, hops: 0) }
}
