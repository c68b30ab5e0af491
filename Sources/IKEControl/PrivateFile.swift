import Glibc

/// Files with what only root may read.
public enum PrivateFile {
  public struct Failure: Error, CustomStringConvertible { public let description: String }

  /// Whole or not at all, for root's eyes.
  public static func write(_ text: String, to path: String) throws(Failure) {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw Failure(description: "\(temporary): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw Failure(description: "\(temporary): \(String(cString: strerror(errno)))") }
      bytes = bytes.dropFirst(count)
    }
    guard rename(temporary, path) == 0 else {
      throw Failure(description: "\(path): \(String(cString: strerror(errno)))")
    }
  }
}
