import CLinux
import Glibc

/// Sends datagrams to one local socket, and waits for nobody. Any thread.
final class LocalDatagramSocket: Sendable {
  private let descriptor: Int32
  private let address: [UInt8]

  /// - Parameter address: a path, or a name in the abstract space after an `@`. Nil: it is too long, or there are no
  ///   descriptors.
  init?(address: String) {
    guard address.utf8.count < MemoryLayout.size(ofValue: sockaddr_un().sun_path) else { return nil }
    var bytes = Array(address.utf8)
    if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
    self.address = bytes
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
  }

  deinit { close(descriptor) }

  /// False: it was not taken.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: address) }
    let length = socklen_t(MemoryLayout<sockaddr_un>.offset(of: \.sun_path)! + address.count)
    return withUnsafePointer(to: &name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT), $0, length) == bytes.count
      }
    }
  }
}
