import CLinux
import Glibc
import KeyManagement
import Logging

/// A listening socket and its connections: who may connect, who reads a large body, who is answered when. The server's
/// thread's.
final class HTTPListener: @unchecked Sendable {
  struct Settings: Sendable {
    var name: String
    var bodyLimit: Int
    var places = ConnectionPlaces()
    var patience = HTTPConnection.Patience()
  }

  /// Bodies up to here are read at once; larger ones one at a time.
  static let smallBody = 64 << 10
  /// Requests that are answered at a time; the answers to some hold copies of whole tables.
  private static let answersAtATime = 4
  private static let acceptPause = Duration.milliseconds(200)
  private static let acceptsATurn = 32
  private static let receiveBytes = 64 << 10

  /// Root's requests wait for nobody else's.
  private struct Lane {
    var bodies = Turnstile(places: 1)
    var answers = Turnstile(places: HTTPListener.answersAtATime)
  }

  let settings: Settings
  let answer: @Sendable (HTTPRequest) async -> HTTPResponse
  let refusal: (HTTPRequestHead.Refusal) -> HTTPResponse
  private(set) var isStopping = false
  private let loop: ControlLoop
  private let logger: Logger
  private var descriptor: Int32?
  private var connections: [UInt64: HTTPConnection] = [:]
  private var lastNumber: UInt64 = 0
  private var lanes = [false: Lane(), true: Lane()]
  private var turnedAway = 0
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: HTTPListener.receiveBytes, alignment: 16)

  var bodyLimit: Int { settings.bodyLimit }
  var isEmpty: Bool { connections.isEmpty }

  /// - Parameter descriptor: listens, and does not block. From here on it is the listener's.
  init(
    _ descriptor: Int32, _ settings: Settings, loop: ControlLoop, logger: Logger,
    answer: @escaping @Sendable (HTTPRequest) async -> HTTPResponse,
    refusal: @escaping (HTTPRequestHead.Refusal) -> HTTPResponse
  ) {
    self.descriptor = descriptor
    self.settings = settings
    self.loop = loop
    self.logger = logger
    self.answer = answer
    self.refusal = refusal
  }

  deinit { buffer.deallocate() }

  func start() { watch() }

  /// Nobody new.
  func stopAccepting() {
    guard let descriptor else { return }
    isStopping = true
    self.descriptor = nil
    loop.unwatch(descriptor)
    close(descriptor)
  }

  func drain() { for connection in Array(connections.values) { connection.drain() } }
  func closeAll() { for connection in Array(connections.values) { connection.close() } }

  func look(at now: ContinuousClock.Instant) {
    for connection in Array(connections.values) { connection.look(at: now, settings.patience) }
    if turnedAway > 0 {
      logger.notice("\(settings.name): \(turnedAway) connections were turned away: too many at a time")
      turnedAway = 0
    }
  }

  // MARK: Accepting

  private func watch() {
    guard let descriptor else { return }
    loop.watch(descriptor, for: .readable) { [weak self] _ in self?.accept() }
  }

  /// So many at a time, however many wait: others have their turn between.
  private func accept() {
    for _ in 0..<Self.acceptsATurn {
      guard let descriptor else { return }
      let accepted = clinux_accept(descriptor)
      if accepted >= 0 {
        admit(accepted)
        continue
      }
      if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS {
        loop.unwatch(descriptor)
        loop.schedule(after: Self.acceptPause) { [weak self] in self?.watch() }
      }
      if errno != EINTR && errno != ECONNABORTED { return }
    }
  }

  private func admit(_ accepted: Int32) {
    guard let peer = HTTPPeer(of: accepted) else {
      close(accepted)
      return
    }
    let holders = connections.values.map {
      ConnectionPlaces.Holder(number: $0.number, peer: $0.peer, isIdle: $0.isIdle, since: $0.since)
    }
    switch settings.places.verdict(on: peer, among: holders) {
    case .take: break
    case .replace(let number): connections[number]?.close()
    case .refuse:
      turnedAway += 1
      close(accepted)
      return
    }
    lastNumber += 1
    let connection = HTTPConnection(accepted, number: lastNumber, peer: peer, listener: self, loop: loop)
    connections[lastNumber] = connection
    connection.start()
  }

  func forget(_ connection: HTTPConnection) { connections[connection.number] = nil }

  // MARK: What connections share

  enum Received {
    case bytes([UInt8])
    /// For now.
    case nothing
    /// Of file, or an error.
    case end
  }

  /// What there is to read, by the one buffer of all.
  func receive(_ descriptor: Int32) -> Received {
    let count = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
    if count < 0, errno == EAGAIN || errno == EINTR { return .nothing }
    guard count > 0, let base = buffer.baseAddress else { return .end }
    defer { explicit_bzero(base, count) }
    return .bytes(Array(buffer[..<count]))
  }

  func enterBody(_ connection: HTTPConnection) -> Bool {
    lanes[connection.peer.isRoot]?.bodies.enter(connection.number) ?? false
  }

  func leaveBody(_ connection: HTTPConnection) {
    if let next = lanes[connection.peer.isRoot]?.bodies.leave(connection.number) { connections[next]?.mayReadBody() }
  }

  func enterAnswer(_ connection: HTTPConnection) -> Bool {
    lanes[connection.peer.isRoot]?.answers.enter(connection.number) ?? false
  }

  func leaveAnswer(_ connection: HTTPConnection) {
    if let next = lanes[connection.peer.isRoot]?.answers.leave(connection.number) { connections[next]?.mayAnswer() }
  }
}

extension HTTPPeer {
  /// Nil where the kernel does not say, and so nobody is let in.
  init?(of descriptor: Int32) {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let isNamed = withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) == 0 }
    }
    guard isNamed else { return nil }
    if storage.ss_family == sa_family_t(AF_UNIX) {
      var (process, user) = (pid_t(), uid_t())
      guard clinux_peer(descriptor, &process, &user) == 0 else { return nil }
      self = .user(user)
      return
    }
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let isKnown = withUnsafePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        getnameinfo($0, length, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
      }
    }
    guard isKnown else { return nil }
    self = .address(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
  }
}
