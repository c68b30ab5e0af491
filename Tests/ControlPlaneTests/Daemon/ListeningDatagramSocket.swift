import Foundation
import Glibc
import Testing

/// The far end of a local datagram socket: systemd's, or the journal's.
final class ListeningDatagramSocket {
  let path: String
  private let descriptor = socket(AF_UNIX, 2, 0)  // SOCK_DGRAM

  init(path: String = NSTemporaryDirectory() + "datagrams-\(UUID().uuidString.prefix(8))") {
    self.path = path
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(result == 0)
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  /// What has come, a datagram each.
  var heard: [[UInt8]] {
    var datagrams: [[UInt8]] = []
    var buffer = [UInt8](repeating: 0, count: 512)
    while case let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT)), count > 0 {
      datagrams.append(Array(buffer[..<count]))
    }
    return datagrams
  }
}
