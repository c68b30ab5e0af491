import Foundation
import SeededRandom
import Wire

@testable import DataPlane

/// `gwfuzz seeds DIRECTORY`: well-made inputs of the targets that take packets, where the fuzzer begins.
enum Seeds {
  static func write(to directory: String) {
    var generator = SeededGenerator(seed: 1)
    for (index, packet) in inner(&generator).enumerated() {
      save(packet, directory, "packet", index)
      for kind in InboundTarget.Kind.allCases {
        let block: [UInt8] =
          switch kind {
          case .packet, .ipip: packet
          // RFC 4303 2.4: padding counts up; then its length and the next header.
          case .espTunnel4, .espTunnel6, .espInUDP: packet + [1, 2, 2, packet[0] >> 4 == 6 ? 41 : 4]
          case .espTransport: Array(packet.dropFirst(20)) + [0, packet[9]]
          case .ipcomp: [4] + packet
          }
        save(blocks([[kind.rawValue] + block]), directory, "inbound", index * 10 + Int(kind.rawValue))
      }
      for pair in UInt8(0)..<4 { save([pair] + blocks([packet]), directory, "outbound", index * 10 + Int(pair)) }
    }
    for options in UInt8(0)..<4 {
      for (index, kind) in BurstsTarget.Kind.allCases.enumerated() {
        // Garbage, packets of the kind in the other places of each burst, garbage: eight bursts of them.
        let garbage: [UInt8] = [BurstsTarget.Kind.garbage.rawValue, 15, 2, 0]
        let others: [UInt8] = [kind.rawValue, 15, 0x22, 0x60, 0x45]
        let round = (0..<8).flatMap { _ in [garbage, others] }
        save([options] + blocks(round), directory, "bursts", index * 10 + Int(options))
      }
    }
    for pair in 0..<OutboundTarget.pairs.count {
      let sent = OutboundTarget.pairs[pair].a.receive(inner(&generator)).sent
      save(blocks(sent.map { [0] + $0 }), directory, "inbound", 1000 + pair)
      for (index, packet) in sent.enumerated() { save(packet, directory, "packet", 1000 + pair * 50 + index) }
    }
  }

  private static func inner(_ generator: inout SeededGenerator) -> [[UInt8]] {
    let (four, six) = (Pair.host4, Pair.host6)
    let udp4 = Packets.udp(from: four.0, to: four.1, payload: generator.content(64))
    let udp6 = Packets.udp(from: six.0, to: six.1, payload: generator.content(300))
    var fragment = udp4
    fragment[6] = 0x20
    let datagram = Array(udp6.dropFirst(40))
    func v6(_ number: UInt8, _ headers: [UInt8]) -> [UInt8] {
      Packets.ip(from: six.0, to: six.1, number: number, payload: headers + datagram)
    }
    let echo: [UInt8] = [8, 0, 0, 0, 1, 2, 3, 4] + generator.bytes(24)
    return [
      udp4, udp6, Packets.summed(fragment),
      Packets.udp(from: four.0, to: four.1, payload: generator.bytes(700), dontFragment: true),
      Packets.udp(from: four.0, to: four.1, payload: [1], options: [7, 7, 4, 0, 0, 0, 0, 0]),
      Packets.udp(from: four.0, to: four.1, payload: [1], options: [0x94, 4, 0, 0]),
      Packets.ip(from: four.0, to: four.1, number: 1, payload: echo),
      // ICMP that quotes a packet; its MTU is 1280.
      Packets.ip(from: Pair.wan4.0, to: Pair.wan4.1, number: 1, payload: [3, 4, 0, 0, 0, 0, 5, 0] + udp4),
      Packets.ip(from: six.0, to: six.1, number: 58, payload: [2, 0, 0, 0, 0, 0, 5, 0] + udp6),
      v6(0, [17, 0, 1, 4, 0, 0, 0, 0]),
      v6(44, [17, 0, 0, 1, 0, 0, 0, 1]),
      v6(44, [17, 0, 0, 9, 0, 0, 0, 1]),
      v6(60, [43, 0, 1, 4, 0, 0, 0, 0, 17, 2, 0, 0] + [UInt8](repeating: 0, count: 20)),
      Packets.ip(
        from: Pair.wan4.0, to: Pair.wan4.1, number: 51, payload: [17, 4, 0, 0, 0, 0, 0x10, 4] + generator.bytes(30)),
      Packets.ip(from: Pair.wan4.0, to: Pair.wan4.1, number: 50, payload: [0, 0, 0x10, 0] + generator.bytes(60)),
    ]
  }

  private static func blocks(_ blocks: [[UInt8]]) -> [UInt8] {
    blocks.flatMap { [UInt8($0.count >> 8), UInt8($0.count & 255)] + $0 }
  }

  private static func save(_ bytes: [UInt8], _ directory: String, _ target: String, _ index: Int) {
    let folder = URL(filePath: directory).appending(path: target)
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    do {
      try Data(bytes).write(to: folder.appending(path: "seed-\(index)"))
    } catch {
      FileHandle.standardError.write(Data("\(error)\n".utf8))
      exit(1)
    }
  }
}
