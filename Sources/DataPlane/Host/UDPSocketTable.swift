import Foundation
import Wire

/// The bound UDP sockets of the network namespace, as /proc/net/udp and /proc/net/udp6 list them.
struct UDPSocketTable: Equatable {
  struct Row: Equatable {
    var inode: UInt64
    var user: UInt32
    var address: IPAddress
    var port: UInt16
  }

  private(set) var rows: [Row] = []

  /// Nil: the kernel does not say.
  static func current() -> UDPSocketTable? {
    guard let v4 = read("/proc/self/net/udp") else { return nil }
    // A kernel without IPv6 has no second table.
    return UDPSocketTable(v4: v4, v6: read("/proc/self/net/udp6") ?? [])
  }

  init(v4: [UInt8], v6: [UInt8]) {
    add(v4, .v4)
    add(v6, .v6)
  }

  private mutating func add(_ text: [UInt8], _ family: AddressFamily) {
    // The first line has the columns' names.
    for line in text.split(separator: UInt8(ascii: "\n")).dropFirst() {
      let fields = line.split(separator: UInt8(ascii: " "))
      guard fields.count > 9, let user = Self.number(fields[7]), let inode = Self.number(fields[9]),
        let (address, port) = Self.end(fields[1], family)
      else { continue }
      rows.append(Row(inode: inode, user: UInt32(truncatingIfNeeded: user), address: address, port: port))
    }
  }

  /// `0100007F:1194`: words of an address as the machine's number of their four bytes, and a port.
  private static func end(_ text: ArraySlice<UInt8>, _ family: AddressFamily) -> (IPAddress, UInt16)? {
    let parts = text.split(separator: UInt8(ascii: ":"))
    let wordCount = family == .v4 ? 1 : 4
    guard parts.count == 2, parts[0].count == 8 * wordCount, let port = number(parts[1], radix: 16) else { return nil }
    var words: [UInt64] = []
    for index in 0..<wordCount {
      let start = parts[0].startIndex + 8 * index
      guard let word = number(parts[0][start..<start + 8], radix: 16) else { return nil }
      words.append(UInt64(UInt32(truncatingIfNeeded: word).bigEndian))
    }
    let address =
      family == .v4
      ? IPAddress(.v4, high: 0, low: words[0])
      : IPAddress(.v6, high: words[0] << 32 | words[1], low: words[2] << 32 | words[3])
    return (address, UInt16(truncatingIfNeeded: port))
  }

  private static func number(_ digits: ArraySlice<UInt8>, radix: UInt64 = 10) -> UInt64? {
    var value: UInt64 = 0
    for digit in digits {
      // 0-9, then A-F and a-f.
      let worth = digit < 0x3a ? UInt64(digit &- 0x30) : UInt64(digit | 0x20) &- 0x57
      guard worth < radix else { return nil }
      value = value &* radix &+ worth
    }
    return digits.isEmpty ? nil : value
  }

  private static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var text: [UInt8] = []
    var room = [UInt8](repeating: 0, count: 32 << 10)
    while true {
      let count = room.withUnsafeMutableBytes { Foundation.read(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return nil }
      if count == 0 { return text }
      text += room[..<count]
    }
  }
}
