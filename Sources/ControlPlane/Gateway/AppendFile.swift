import Glibc
import IKEControl

/// A file in the state directory that grows by what is appended, and is written anew when most of it is out of date.
/// Control thread.
final class AppendFile {
  let path: String
  private let calls: PrivateFile.Calls
  private var descriptor: Int32 = -1
  private(set) var size = 0
  /// What was appended may be lost with the machine.
  private(set) var isSynced = true

  init(path: String, calls: PrivateFile.Calls) {
    self.path = path
    self.calls = calls
  }

  deinit { shut() }

  /// False: nothing can be appended until it is written anew.
  var isOpen: Bool { descriptor >= 0 }

  /// What the last process left; nil: nothing.
  static func contents(of path: String) throws(PrivateFile.Failure) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    if descriptor < 0, errno == ENOENT { return nil }
    guard descriptor >= 0 else { throw PrivateFile.Failure(path) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = read(descriptor, &part, part.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw PrivateFile.Failure(path) }
      if count == 0 { return bytes }
      bytes += part[..<count]
    }
  }

  func replace(_ bytes: some Collection<UInt8>) throws(PrivateFile.Failure) {
    try PrivateFile.write(bytes, to: path, isSynced: true, calls: calls)
    shut()
    descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw PrivateFile.Failure(path) }
    size = bytes.count
    isSynced = true
  }

  /// With an error the file is as it was, or is not open any more.
  func append(_ bytes: some Collection<UInt8>, syncing: Bool) throws(PrivateFile.Failure) {
    do throws(PrivateFile.Failure) {
      try PrivateFile.append(bytes, to: descriptor, path, calls)
    } catch {
      if ftruncate(descriptor, off_t(size)) != 0 { shut() }
      throw error
    }
    size += bytes.count
    isSynced = false
    if syncing { try sync() }
  }

  /// Where it fails nobody knows what the file holds.
  func sync() throws(PrivateFile.Failure) {
    guard !isSynced else { return }
    guard calls.sync(descriptor) == 0 else {
      let failure = PrivateFile.Failure(path)
      shut()
      throw failure
    }
    isSynced = true
  }

  private func shut() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }
}
