import SeededRandom
import Wire

/// Packets for tests, built byte by byte.
enum Packet {
  static func v4(
    from source: String = "192.0.2.1", to destination: String = "198.51.100.7", ipProtocol: UInt8 = IPProtocol.udp,
    tos: UInt8 = 0, fragmentField: UInt16 = 0, options: [UInt8] = [], payload: [UInt8]
  ) -> [UInt8] {
    let headerLength = 20 + options.count
    var bytes = [UInt8](repeating: 0, count: 20) + options + payload
    bytes.withUnsafeMutableBytes {
      let base = $0.baseAddress!
      IPv4Header.write(
        base, source: IPv4Address(source)!, destination: IPv4Address(destination)!, ipProtocol: ipProtocol,
        totalLength: $0.count, timeToLive: 1, typeOfService: tos, identification: 0x1234, fragmentField: fragmentField)
      base.setByte(UInt8(0x40 | headerLength / 4), at: 0)
      IPv4Header.setChecksum(base, headerLength: headerLength)
    }
    return bytes
  }

  static func v6(
    from source: String = "2001:db8::1", to destination: String = "2001:db8:9::7", next: UInt8 = IPProtocol.udp,
    payload: [UInt8]
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 40) + payload
    bytes.withUnsafeMutableBytes {
      IPv6Header.write(
        $0.baseAddress!, source: IPv6Address(source)!, destination: IPv6Address(destination)!, nextHeader: next,
        payloadLength: payload.count, hopLimit: 1)
    }
    return bytes
  }

  static func random(_ count: Int, using generator: inout SeededGenerator) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }
}
