import Glibc

/// journald's own protocol: a message with fields, which standard error cannot have. Any thread.
struct JournalSocket: Sendable {
  static let path = "/run/systemd/journal/socket"
  private let socket: LocalDatagramSocket

  /// Nil: there is none.
  init?(path: String = JournalSocket.path) {
    guard access(path, W_OK) == 0, let socket = LocalDatagramSocket(address: path) else { return nil }
    self.socket = socket
  }

  /// False: it did not take it, and the line has to go elsewhere.
  func send(_ fields: [(name: String, value: String)]) -> Bool {
    var bytes: [UInt8] = []
    for (name, value) in fields { Self.append(name, value, to: &bytes) }
    return socket.send(bytes)
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
