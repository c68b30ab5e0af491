import Glibc

/// journald's own protocol: a message with fields, which standard error cannot have. Any thread.
struct JournalSocket: Sendable {
  static let path = "/run/systemd/journal/socket"
  private let descriptor: Int32
  private let path: String

  /// Nil: there is none.
  init?(path: String = JournalSocket.path) {
    guard access(path, W_OK) == 0 else { return nil }
    // SOCK_DGRAM
    descriptor = socket(AF_UNIX, 2 | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    self.path = path
  }

  /// False: it did not take it, and the line has to go elsewhere.
  func send(_ fields: [(name: String, value: String)]) -> Bool {
    var bytes: [UInt8] = []
    for (name, value) in fields { Self.append(name, value, to: &bytes) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(
          descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT), $0,
          socklen_t(MemoryLayout<sockaddr_un>.size)) == bytes.count
      }
    }
  }

  /// A value of several lines has its length before it.
  private static func append(_ name: String, _ value: String, to bytes: inout [UInt8]) {
    bytes += name.utf8
    if value.utf8.contains(0x0a) {
      bytes.append(0x0a)
      withUnsafeBytes(of: UInt64(value.utf8.count).littleEndian) { bytes += $0 }
    } else {
      bytes.append(UInt8(ascii: "="))
    }
    bytes += value.utf8
    bytes.append(0x0a)
  }
}
