import Foundation
import Glibc
import Synchronization

@testable import IKEControl

/// A VICI server for tests: answers what it is told to, and remembers what it was asked.
final class FakeCharon: Sendable {
  typealias Answer = @Sendable (_ command: String, _ message: VICISection) -> [VICIPacket]

  let path: String
  private let listener: Int32
  private let asked = Mutex<[(command: String, message: VICISection)]>([])
  private let answer: Answer
  private let clients = Mutex<[Int32]>([])
  /// What is said again and again, without end, after the answer to a command.
  private let endless: @Sendable (_ command: String) -> VICIPacket?

  init(
    answer: @escaping Answer = { _, _ in [.response(VICISection(["success": "yes"]))] }, path: String? = nil,
    endless: @escaping @Sendable (_ command: String) -> VICIPacket? = { _ in nil }
  ) throws {
    self.endless = endless
    self.path = path ?? FileManager.default.temporaryDirectory.path + "/vici-\(UUID().uuidString.prefix(8))"
    self.answer = answer
    unlink(self.path)
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = self.path
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard status == 0, listen(listener, 8) == 0 else { throw VICIError.system(String(cString: strerror(errno))) }
    Thread.detachNewThread { [self] in
      while true {
        let client = accept(listener, nil, nil)
        guard client >= 0 else { return }
        clients.withLock { $0.append(client) }
        Thread.detachNewThread { [self] in serve(client) }
      }
    }
  }

  /// The daemon's end.
  func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    unlink(path)
    for client in clients.withLock({ $0 }) { shutdown(client, Int32(SHUT_RDWR)) }
  }

  var requests: [(command: String, message: VICISection)] { asked.withLock { $0 } }
  func requests(_ command: String) -> [VICISection] { requests.filter { $0.command == command }.map(\.message) }

  /// Bytes as they are, to every client.
  func send(_ bytes: [UInt8]) {
    for client in clients.withLock({ $0 }) { _ = Glibc.send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
  }

  private func serve(_ client: Int32) {
    while let header = read(client, 4) {
      guard let body = read(client, header.reduce(0) { $0 << 8 | Int($1) }), let packet = try? VICIPacket(body) else {
        break
      }
      var answers: [VICIPacket] = [.eventConfirm]
      if case .request(let command, let message) = packet {
        asked.withLock { $0.append((command, message)) }
        answers = answer(command, message)
      }
      for answer in answers {
        guard let bytes = try? answer.framed().bytes else { continue }
        _ = Glibc.send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
      }
      // For as long as somebody listens.
      while case .request(let command, _) = packet, let endless = endless(command),
        let bytes = try? endless.framed().bytes
      {
        guard Glibc.send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { break }
      }
    }
    close(client)
    clients.withLock { $0.removeAll { $0 == client } }
  }

  private func read(_ client: Int32, _ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var got = 0
    while got < count {
      let status = recv(client, &bytes[got], count - got, 0)
      guard status > 0 else { return nil }
      got += status
    }
    return bytes
  }
}
