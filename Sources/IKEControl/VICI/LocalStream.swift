import CLinux
import Glibc
import Threads

/// A stream socket to a Unix path, never waiting longer than a deadline, however much or little the other end says. One
/// thread's.
final class LocalStream {
  let descriptor: Int32
  private let interrupt: Interrupt?

  enum Failure: Error { case notRunning, permission, stranger(uid_t), timedOut, closed, system(String) }

  /// Refuses a listener that is neither root's nor this user's: it would be given keys. A daemon that gave up root after it
  /// had made its socket, as iked does, is known by the owner of the socket's file.
  /// - Parameter interrupt: once raised, everything ends as if closed.
  init(path: String, deadline: ContinuousClock.Instant, interrupt: Interrupt? = nil) throws(Failure) {
    self.interrupt = interrupt
    var address = sockaddr_un()
    let size = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < size else { throw .system("\(path): longer than the \(size - 1) bytes of a socket's path") }
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    descriptor = socket(
      AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { throw .system(Self.reason) }
    while true {
      let status = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      if status == 0 || errno == EISCONN { break }
      let failure = errno
      // The daemon's backlog is full.
      if (failure == EAGAIN || failure == EINTR) && ContinuousClock.now < deadline && interrupt?.isRaised != true {
        usleep(20_000)
        continue
      }
      throw Self.failure(failure, path)
    }
    var (process, user) = (pid_t(), uid_t())
    guard clinux_peer(descriptor, &process, &user) == 0 else { throw .system(Self.reason) }
    guard Self.isTrusted(user) || Self.owner(of: path).map(Self.isTrusted) == true else { throw .stranger(user) }
  }

  private static func isTrusted(_ user: uid_t) -> Bool { user == 0 || user == geteuid() }

  private static func owner(of path: String) -> uid_t? {
    var status = stat()
    return lstat(path, &status) == 0 ? status.st_uid : nil
  }

  private static func failure(_ code: Int32, _ path: String) -> Failure {
    switch code {
    case ENOENT, ECONNREFUSED, ENOTDIR: .notRunning
    case EACCES, EPERM: .permission
    case EAGAIN: .timedOut
    default: .system("\(path): \(String(cString: strerror(code)))")
    }
  }

  deinit { close(descriptor) }

  private static var reason: String { String(cString: strerror(errno)) }

  /// The process that listens there.
  var peerProcess: pid_t? {
    var process: pid_t = 0
    var user: uid_t = 0
    return clinux_peer(descriptor, &process, &user) == 0 && process > 0 ? process : nil
  }

  /// False: nothing until the deadline; nil waits for ever.
  func wait(for events: Int32, until deadline: ContinuousClock.Instant?) throws(Failure) -> Bool {
    while true {
      // poll passes over a descriptor below zero.
      var entries = [
        pollfd(fd: descriptor, events: Int16(events), revents: 0),
        pollfd(fd: interrupt?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
      ]
      let status = poll(&entries, 2, Self.milliseconds(until: deadline))
      if status > 0 {
        guard entries[1].revents == 0 else { throw .closed }
        return true
      }
      if status == 0 { return false }
      guard errno == EINTR else { throw .system(Self.reason) }
    }
  }

  static func milliseconds(until deadline: ContinuousClock.Instant?) -> Int32 {
    guard let deadline else { return -1 }
    let left = ContinuousClock.now.duration(to: deadline).components
    guard left.seconds >= 0, left.attoseconds >= 0 else { return 0 }
    return Int32(
      clamping: left.seconds.multipliedReportingOverflow(by: 1000).partialValue
        + left.attoseconds / 1_000_000_000_000_000 + 1)
  }

  /// Also where the other end always has something: who never waits never runs into the deadline otherwise.
  private func check(_ deadline: ContinuousClock.Instant) throws(Failure) {
    guard ContinuousClock.now < deadline else { throw .timedOut }
    if let interrupt, interrupt.isRaised { throw .closed }
  }

  func write(_ bytes: [UInt8], until deadline: ContinuousClock.Instant) throws(Failure) {
    var sent = 0
    while sent < bytes.count {
      try check(deadline)
      let count = bytes[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count > 0 {
        sent += count
      } else if errno == EAGAIN {
        guard try wait(for: POLLOUT, until: deadline) else { throw .timedOut }
      } else if errno != EINTR {
        throw errno == EPIPE || errno == ECONNRESET ? .closed : .system(Self.reason)
      }
    }
  }

  /// Exactly `count` bytes.
  func read(_ count: Int, until deadline: ContinuousClock.Instant) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var got = 0
    while got < count {
      try check(deadline)
      let status = bytes[got...].withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
      if status > 0 {
        got += status
      } else if status == 0 {
        throw .closed
      } else if errno == EAGAIN {
        guard try wait(for: POLLIN, until: deadline) else { throw .timedOut }
      } else if errno != EINTR {
        throw errno == ECONNRESET ? .closed : .system(Self.reason)
      }
    }
    return bytes
  }
}
