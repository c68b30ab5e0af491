import Glibc

/// A whole file as bytes, under a limit on its size.
enum TextFile {
  struct Failure: Error {
    var code: Int32
    /// What went wrong, as `strerror` says it.
    var message: String { code == EFBIG ? "file too large" : String(cString: strerror(code)) }
  }

  /// What `fstat` said of the file that was read.
  struct Contents {
    var bytes: [UInt8]
    var owner: uid_t
    var mode: mode_t
    var device: dev_t
    var inode: ino_t
  }

  /// Reads to the end; `EFBIG` beyond `limit` bytes, so that a device or a pipe cannot fill the memory.
  static func read(_ path: String, limit: Int) throws(Failure) -> Contents {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { throw Failure(code: errno) }
    defer { close(fd) }
    return try read(descriptor: fd, limit: limit)
  }

  static func read(descriptor fd: Int32, limit: Int) throws(Failure) -> Contents {
    var status = stat()
    guard fstat(fd, &status) == 0 else { throw Failure(code: errno) }
    guard status.st_mode & S_IFMT != S_IFDIR else { throw Failure(code: EISDIR) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = Glibc.read(fd, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Failure(code: errno) }
      if count == 0 { break }
      guard bytes.count + count <= limit else { throw Failure(code: EFBIG) }
      bytes += chunk[..<count]
    }
    return Contents(
      bytes: bytes, owner: status.st_uid, mode: status.st_mode, device: status.st_dev, inode: status.st_ino)
  }
}
