import CLinux
import Glibc

/// How much a client may leave unread, in bytes of queued datagrams.
public struct KeyConnectionLimits: Sendable {
  /// A client whose answers pass this is disconnected.
  public var replies = 8 << 20
  /// Above this, notices are dropped and counted.
  public var notices = 1 << 20
  /// Above this, no further requests are read: answers are made only as fast as they are taken.
  public var pause = 256 << 10

  public init() {}
}

/// One client's descriptor, its session and what is queued for it. Control thread only.
final class KeyConnection {
  /// The longest request taken; longer ones are cut and so refused.
  private static let longestRequest = 1 << 16
  /// Requests read before other descriptors get their turn.
  private static let turn = 32
  /// Sent datagrams whose places in the queue are kept.
  private static let sentPlaces = 1024

  let descriptor: Int32
  let number: UInt64
  let process: pid_t
  private let loop: any EventLoop
  private let limits: KeyConnectionLimits
  private let closed: (KeyConnection) -> Void
  private(set) var session: (any KeySession)?
  private var queue: [[UInt8]] = []
  private var head = 0
  private var queuedBytes = 0
  private(set) var droppedNotices: UInt64 = 0
  /// It was closed because it did not read its answers.
  private(set) var isOverfull = false
  /// Of a session that is closed.
  private var lastRefusals: UInt64 = 0
  var refusals: UInt64 { session?.refusals ?? lastRefusals }
  private(set) var wasListener = false
  private var hasOverrun = false
  private var isDoomed = false
  private var watched: IOEvents?

  init(
    descriptor: Int32, number: UInt64, process: pid_t, loop: any EventLoop, limits: KeyConnectionLimits,
    closed: @escaping (KeyConnection) -> Void
  ) {
    self.descriptor = descriptor
    self.number = number
    self.process = process
    self.loop = loop
    self.limits = limits
    self.closed = closed
  }

  func start(_ session: any KeySession) {
    self.session = session
    rewatch()
  }

  /// What the session has to say. Never calls back into the session or closes at once: it may be in the middle of a
  /// request.
  func send(_ datagram: [UInt8], _ kind: KeyDatagramKind) {
    guard !isDoomed else { return }
    if kind == .notice, queuedBytes + datagram.count > limits.notices {
      droppedNotices += 1
      hasOverrun = true
      return
    }
    queue.append(datagram)
    queuedBytes += datagram.count
    flush()
    if queuedBytes > limits.replies {
      isOverfull = true
      isDoomed = true
    }
    if session != nil { rewatch() }
  }

  func close() {
    guard let session else { return }
    self.session = nil
    lastRefusals = session.refusals
    wasListener = session.isListener
    session.close()
    loop.unwatch(descriptor)
    Glibc.close(descriptor)
    for index in queue.indices { wipe(&queue[index]) }
    queue = []
    closed(self)
  }

  // MARK: Loop

  private func rewatch() {
    var wanted: IOEvents = []
    if queuedBytes < limits.pause { wanted.insert(.readable) }
    // A doomed connection is closed from the loop, not from under its session.
    if head < queue.count || isDoomed { wanted.insert(.writable) }
    guard wanted != watched else { return }
    watched = wanted
    loop.watch(descriptor, for: wanted) { [weak self] events in self?.ready(events) }
  }

  private func ready(_ events: IOEvents) {
    if events.contains(.writable) { flush() }
    pump()
    if !isDoomed, queuedBytes < limits.pause, !events.isDisjoint(with: [.readable, .hangup]) { read() }
    if isDoomed { close() } else { rewatch() }
  }

  private func read() {
    withUnsafeTemporaryAllocation(byteCount: Self.longestRequest, alignment: 16) { buffer in
      for _ in 0..<Self.turn where !isDoomed && queuedBytes < limits.pause {
        let length = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
        if length < 0 && (errno == EAGAIN || errno == EINTR) { return }
        guard length > 0, let session else {
          isDoomed = true
          return
        }
        session.receive(UnsafeRawBufferPointer(rebasing: buffer[..<length]))
        if let base = buffer.baseAddress { explicit_bzero(base, length) }
        pump()
      }
    }
  }

  /// Goes on with a dump as far as the client keeps up.
  private func pump() {
    while !isDoomed, queuedBytes < limits.pause, session?.resume() == true {}
  }

  private func flush() {
    defer { forgetSent() }
    while head < queue.count {
      let size = queue[head].count
      let sent = queue[head].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, size, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      }
      if sent < 0 {
        if errno != EAGAIN && errno != EINTR && errno != ENOBUFS { isDoomed = true }
        return
      }
      wipe(&queue[head])
      queuedBytes -= size
      head += 1
    }
    guard hasOverrun else { return }
    hasOverrun = false
    if let notice = session?.overrunNotice { send(notice, .reply) }
  }

  /// A client that always lags behind has its queue shortened all the same.
  private func forgetSent() {
    guard head == queue.count || head >= Self.sentPlaces else { return }
    queue.removeFirst(head)
    head = 0
  }

  /// Answers carry keys.
  private func wipe(_ datagram: inout [UInt8]) {
    datagram.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } }
    datagram = []
  }
}
