import CLinux
import Glibc

/// Where a key daemon's UDP sockets are named: ikeshim passes each one that asks for the kernel's IPsec bypass, so that
/// the gateway knows whose packets go by no policy. Root's clients only, one message and one answer each. Control thread.
public final class IKESocketServer {
  /// At a time; each is there for as long as a message takes.
  private static let mostConnections = 64
  private static let acceptsATurn = 32

  public let path: String
  private let loop: any EventLoop
  private let allowedUser: uid_t
  private let take: (_ descriptor: Int32, _ takesESP: Bool) -> Int32
  private var listener: ListeningSocket?
  private var connections: Set<Int32> = []

  /// `take`: the descriptor is its to close; returns 0, or the errno that the daemon's side is told.
  public init(
    path: String, loop: any EventLoop, allowedUser: uid_t = 0,
    take: @escaping (_ descriptor: Int32, _ takesESP: Bool) -> Int32
  ) {
    self.path = path
    self.loop = loop
    self.allowedUser = allowedUser
    self.take = take
  }

  public func start() throws(KeySocketError) {
    let listener = try ListeningSocket(path: path)
    self.listener = listener
    loop.watch(listener.descriptor, for: .readable) { [weak self] _ in self?.accept() }
  }

  public func stop() {
    if let listener {
      loop.unwatch(listener.descriptor)
      listener.close()
    }
    listener = nil
    for connection in connections { close(connection) }
  }

  /// So many at a time, however many wait: the control thread has other work.
  private func accept() {
    for _ in 0..<Self.acceptsATurn {
      guard let listener else { return }
      let connection = clinux_accept(listener.descriptor)
      if connection < 0 {
        if errno != EINTR && errno != ECONNABORTED { return }
        continue
      }
      var process: pid_t = 0
      var user: uid_t = 0
      guard clinux_peer(connection, &process, &user) == 0, user == allowedUser,
        connections.count < Self.mostConnections
      else {
        Glibc.close(connection)
        continue
      }
      connections.insert(connection)
      loop.watch(connection, for: .readable) { [weak self] _ in self?.read(connection) }
    }
  }

  private func read(_ connection: Int32) {
    var flags: UInt32 = 0
    var descriptor: Int32 = -1
    let count = clinux_receive_descriptor(connection, &flags, MemoryLayout<UInt32>.size, &descriptor)
    if count < 0, errno == EAGAIN || errno == EINTR { return }
    var answer = EINVAL
    if count == MemoryLayout<UInt32>.size, descriptor >= 0 {
      answer = take(descriptor, flags & 1 != 0)
    } else if descriptor >= 0 {
      Glibc.close(descriptor)
    }
    _ = send(connection, &answer, MemoryLayout<Int32>.size, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
    close(connection)
  }

  private func close(_ connection: Int32) {
    connections.remove(connection)
    loop.unwatch(connection)
    Glibc.close(connection)
  }
}
