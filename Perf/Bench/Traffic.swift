import CLayout
import Engines
import Foundation
import IPsec
import Wire

/// The addresses of the benchmark, the same as the ones that ipsec-secgw's configuration uses in `Perf/compare`.
enum Plan {
  /// What DPDK gives the first net_pcap port of a process.
  static let mac = MACAddress("02:70:63:61:70:00")!
  static let peerMAC = MACAddress("02:00:00:00:00:20")!
  static let source = "192.168.0.1"
  static let local = "172.16.1.1"
  static let nextHop = "172.16.1.254"

  static func innerNet(_ i: Int) -> String { "10.\(i / 250).\(i % 250).0/24" }
  static func innerDestination(_ i: Int) -> String { "10.\(i / 250).\(i % 250).1" }
  static func peer(_ i: Int) -> String { "172.16.\(16 + i / 250).\(1 + i % 250)" }
  static func spi(_ i: Int) -> UInt32 { 1000 + UInt32(i) }
}

/// Lengths of IP packets in the load.
enum PacketSize: Sendable, Equatable {
  case fixed(Int)
  case imix

  static let imixPattern = [64, 64, 64, 64, 64, 64, 64, 570, 570, 570, 570, 1418]

  init?(_ text: String) {
    if text == "imix" {
      self = .imix
    } else if let length = Int(text), (28...1438).contains(length) {
      self = .fixed(length)
    } else {
      return nil
    }
  }

  var name: String {
    switch self {
    case .fixed(let length): "\(length)"
    case .imix: "imix"
    }
  }

  /// `count` lengths at the least; IMIX in an order that is the same every time and whole patterns only.
  func lengths(_ count: Int) -> [Int] {
    switch self {
    case .fixed(let length): return Array(repeating: length, count: count)
    case .imix:
      let rounds = (count + 11) / 12
      var lengths = (0..<rounds).flatMap { _ in Self.imixPattern }
      var state: UInt64 = 7
      for i in stride(from: lengths.count - 1, to: 0, by: -1) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        lengths.swapAt(i, Int(state >> 33) % (i + 1))
      }
      return lengths
    }
  }
}

/// Writes the capture that net_pcap replays.
struct Load {
  let size: PacketSize
  let sas: Int
  let count: Int

  init(size: PacketSize, sas: Int) {
    self.size = size
    self.sas = sas
    // Whole rounds over the SAs, few enough that the replayed packets stay near.
    count = sas >= 1000 ? 3000 : max(1000 / sas, 1) * sas
  }

  /// Packets in clear, IP header first.
  func clearPackets() -> [[UInt8]] {
    size.lengths(count).enumerated().map { index, length in
      Self.packet(
        length: length, source: IPAddress(Plan.source)!, destination: IPAddress(Plan.innerDestination(index % sas))!,
        number: index)
    }
  }

  /// UDP in IPv4.
  static func packet(length: Int, source: IPAddress, destination: IPAddress, number: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: length)
    for offset in 28..<length { bytes[offset] = UInt8(truncatingIfNeeded: (offset &* 31) ^ number) }
    bytes.withUnsafeMutableBytes { raw in
      let ip = raw.baseAddress!
      ip.storeBytes(of: 0x45, as: UInt8.self)
      ip.storeBytes(of: UInt16(length).bigEndian, toByteOffset: 2, as: UInt16.self)
      ip.storeBytes(of: UInt16(truncatingIfNeeded: number).bigEndian, toByteOffset: 4, as: UInt16.self)
      ip.storeBytes(of: 64, toByteOffset: 8, as: UInt8.self)
      ip.storeBytes(of: 17, toByteOffset: 9, as: UInt8.self)
      (ip + 12).copyMemory(from: source.bytes + destination.bytes, byteCount: 8)
      ip.storeBytes(of: InternetChecksum.of(ip, count: 20).bigEndian, toByteOffset: 10, as: UInt16.self)
      ip.storeBytes(of: UInt16(1024 + number % 1000).bigEndian, toByteOffset: 20, as: UInt16.self)
      ip.storeBytes(of: UInt16(5001).bigEndian, toByteOffset: 22, as: UInt16.self)
      ip.storeBytes(of: UInt16(length - 20).bigEndian, toByteOffset: 24, as: UInt16.self)
    }
    return bytes
  }

  /// The same packets in ESP, sealed by this gateway's own code under the SAs that `open` will be tried with.
  func sealedPackets(_ sa: (Int) -> UnsafeMutablePointer<gw_sa>) -> [[UInt8]] {
    var generator = SystemRandomNumberGenerator()
    return clearPackets().enumerated().map { index, clear in
      let sequence = UInt64(index / sas + 1)
      return Self.seal(clear, sa(index % sas), sequence: sequence, random: (generator.next(), generator.next()))
    }
  }

  /// In ESP, outer header first.
  static func seal(
    _ clear: [UInt8], _ sa: UnsafeMutablePointer<gw_sa>, sequence: UInt64, random: (UInt64, UInt64)
  ) -> [UInt8] {
    let room = 128
    let memory = UnsafeMutableRawPointer.allocate(byteCount: clear.count + 2 * room, alignment: 64)
    let job = UnsafeMutablePointer<CryptoJob>.allocate(capacity: 1)
    defer {
      memory.deallocate()
      job.deallocate()
    }
    UnsafeMutableRawPointer(job).initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<CryptoJob>.stride)
    let payload = memory + room
    payload.copyMemory(from: clear, byteCount: clear.count)
    let framed = ESP.frame(
      sa, payload: payload, length: clear.count, nextHeader: 4, sequence: sequence, random: random,
      session: sa.pointee.session!, job: job)
    sa.pointee.burst!(job, 1)
    precondition(job.pointee.succeeded == 1, "the load could not be sealed")
    let outer = Int(sa.pointee.outer_length)
    let length = framed.length + outer
    OuterHeader.write(
      sa, at: framed.start - outer, length: length, trafficClass: 0, flowLabel: 0, dontFragment: true,
      identification: 0)
    return Array(UnsafeRawBufferPointer(start: framed.start - outer, count: length))
  }

  /// A capture of Ethernet frames for the first port.
  static func write(_ packets: [[UInt8]], to path: String) throws {
    var data = Data()
    func append<T>(_ value: T) { withUnsafeBytes(of: value) { data.append(contentsOf: $0) } }
    for word: UInt32 in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1] { append(word) }
    for (index, packet) in packets.enumerated() {
      let length = UInt32(packet.count + 14)
      for word in [0, UInt32(index), length, length] { append(word) }
      data.append(contentsOf: Plan.mac.bytes + Plan.peerMAC.bytes + [0x08, 0x00])
      data.append(contentsOf: packet)
    }
    try data.write(to: URL(fileURLWithPath: path))
  }
}
