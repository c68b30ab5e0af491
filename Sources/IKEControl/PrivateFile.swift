import Glibc

/// Files with what only root may read.
public enum PrivateFile {
  public struct Failure: Error, CustomStringConvertible {
    public let path: String
    public let reason: String
    public var description: String { "\(path): \(reason)" }

    /// With what errno says.
    init(_ path: String) {
      self.path = path
      reason = String(cString: strerror(errno))
    }
  }

  /// Whole or not at all, for root's eyes; `isSynced`: also after a loss of power.
  public static func write(_ text: String, to path: String, isSynced: Bool = false) throws(Failure) {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw Failure(temporary) }
    defer { close(descriptor) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw Failure(temporary) }
      bytes = bytes.dropFirst(count)
    }
    guard !isSynced || fdatasync(descriptor) == 0, rename(temporary, path) == 0 else { throw Failure(path) }
  }
}
