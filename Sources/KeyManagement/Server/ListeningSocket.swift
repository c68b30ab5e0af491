import Glibc

/// Why a key socket could not be opened.
public struct KeySocketError: Error, Equatable, CustomStringConvertible, Sendable {
  public var path: String
  public var reason: String
  public var description: String { "\(path): \(reason)" }

  init(_ path: String, _ reason: String) {
    self.path = path
    self.reason = reason
  }

  static func current(_ path: String, _ call: String) -> KeySocketError {
    KeySocketError(path, "\(call): \(String(cString: strerror(errno)))")
  }
}

/// A listening AF_UNIX SOCK_SEQPACKET socket at a path, mode 0600. Pathname sockets, because abstract ones are scoped by
/// network namespace.
struct ListeningSocket {
  /// More than come at once: where there is no place left, a client that does not wait is told so (EAGAIN).
  private static let backlog: Int32 = 512

  let path: String
  let descriptor: Int32
  /// Which file is ours to remove.
  private let file: stat

  /// Replaces a socket file that nobody listens on; refuses one that somebody does, and any other kind of file.
  init(path: String) throws(KeySocketError) {
    self.path = path
    let descriptor = try Self.make(path)
    var file = stat()
    // Nobody can connect before listen(), so the mode is in place in time.
    guard chmod(path, 0o600) == 0, stat(path, &file) == 0, listen(descriptor, Self.backlog) == 0 else {
      let error = KeySocketError.current(path, "listen")
      Glibc.close(descriptor)
      unlink(path)
      throw error
    }
    self.descriptor = descriptor
    self.file = file
  }

  private static func make(_ path: String) throws(KeySocketError) -> Int32 {
    let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard var address = sockaddr_un(path: path) else { throw KeySocketError(path, "path is too long for a socket") }
    for attempt in 0..<2 {
      let descriptor = socket(AF_UNIX, type, 0)
      guard descriptor >= 0 else { throw .current(path, "socket") }
      if address.with({ bind(descriptor, $0, $1) }) == 0 { return descriptor }
      let error = KeySocketError.current(path, "bind")
      let isTaken = errno == EADDRINUSE
      Glibc.close(descriptor)
      guard isTaken, attempt == 0 else { throw error }
      try removeStale(path, &address, type)
    }
    throw KeySocketError(path, "bind: somebody else took the path")
  }

  private static func removeStale(_ path: String, _ address: inout sockaddr_un, _ type: Int32) throws(KeySocketError) {
    var file = stat()
    guard lstat(path, &file) == 0 else { return }
    guard file.st_mode & S_IFMT == S_IFSOCK else { throw KeySocketError(path, "exists and is not a socket") }
    let probe = socket(AF_UNIX, type, 0)
    guard probe >= 0 else { throw .current(path, "socket") }
    defer { Glibc.close(probe) }
    let result = address.with { connect(probe, $0, $1) }
    guard result != 0, errno == ECONNREFUSED || errno == ENOENT else {
      throw KeySocketError(path, "another process listens on it")
    }
    unlink(path)
  }

  func close() {
    Glibc.close(descriptor)
    var now = stat()
    if lstat(path, &now) == 0, now.st_ino == file.st_ino, now.st_dev == file.st_dev { unlink(path) }
  }
}

extension sockaddr_un {
  /// Nil if the path does not fit with its NUL.
  public init?(path: String) {
    self.init()
    sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let fits = withUnsafeMutableBytes(of: &sun_path) { field in
      guard !bytes.isEmpty, bytes.count < field.count, !bytes.contains(0) else { return false }
      field.copyBytes(from: bytes)
      return true
    }
    guard fits else { return nil }
  }

  public mutating func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    withUnsafePointer(to: &self) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
