import Glibc
import KeyManagement

/// The API's socket file. It is bound in a directory that only this process can enter, given its owner and mode there,
/// and then moved to its name: nobody can connect to it with other permissions, and a stale one is replaced at once.
struct ControlSocket: Sendable {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  let path: String
  let group: String
  private let privateDirectory: String
  /// Where to bind.
  private let bindPath: String

  /// Makes the private directory beside `path`. Refuses if something answers at `path`, or if it is no socket.
  init(path: String, group: String) throws(Failure) {
    self.path = path
    self.group = group
    try Self.refuseIfTaken(path)
    let directory = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
    var template = Array("\(directory).gw.XXXXXX".utf8CString)
    let made: String? = template.withUnsafeMutableBufferPointer { buffer in
      buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
    }
    guard let made else {
      throw Failure(description: "cannot make a directory beside \(path): \(Self.reason())")
    }
    privateDirectory = made
    bindPath = privateDirectory + "/s"
    guard max(bindPath.utf8.count, path.utf8.count) < MemoryLayout.size(ofValue: sockaddr_un().sun_path) else {
      rmdir(privateDirectory)
      throw Failure(description: "\(path): too long for a socket's name; choose a shorter --run-dir")
    }
  }

  /// Binds, gives the socket its owner and mode, and its name. What `init` made is gone then, whatever came of it.
  /// - Returns: also how it stands, for the log.
  func listen() throws(Failure) -> (descriptor: Int32, standing: String) {
    defer {
      unlink(bindPath)
      rmdir(privateDirectory)
    }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(AF_UNIX, type, 0)
    guard descriptor >= 0 else { throw Failure(description: "socket: \(Self.reason())") }
    do throws(Failure) {
      guard var address = sockaddr_un(path: bindPath), address.with({ bind(descriptor, $0, $1) }) == 0 else {
        throw failure
      }
      let isShared = Self.lookUp(group: group).map { chown(bindPath, uid_t.max, $0) == 0 } ?? false
      guard chmod(bindPath, isShared ? 0o660 : 0o600) == 0, Glibc.listen(descriptor, Self.backlog) == 0,
        rename(bindPath, path) == 0
      else { throw failure }
      let alone = "mode 0600: there is no group \(group) that it could be given to"
      return (descriptor, isShared ? "mode 0660, group \(group)" : alone)
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// With what errno says.
  private var failure: Failure { Failure(description: "cannot put the socket at \(path): \(Self.reason())") }

  private static let backlog: Int32 = 128

  /// Device and inode, to recognise our own later.
  static func identity(of path: String) -> [UInt64]? {
    var status = stat()
    return lstat(path, &status) == 0 ? [UInt64(status.st_dev), UInt64(status.st_ino)] : nil
  }

  private static func refuseIfTaken(_ path: String) throws(Failure) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw Failure(description: "\(path) is there and is no socket") }
    if answers(path) { throw Failure(description: "\(path): another gwd answers there") }
  }

  private static func answers(_ path: String) -> Bool {
    guard var address = sockaddr_un(path: path) else { return false }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    let result = address.with { connect(descriptor, $0, $1) }
    // EAGAIN: a full backlog, so somebody listens.
    return result == 0 || errno == EAGAIN
  }

  private static func lookUp(group: String) -> gid_t? {
    var entry = Glibc.group()
    var found: UnsafeMutablePointer<Glibc.group>?
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { buffer in
      getgrnam_r(group, &entry, buffer.baseAddress!, buffer.count, &found) == 0 ? found.map { $0.pointee.gr_gid } : nil
    }
  }

  private static func reason() -> String { String(cString: strerror(errno)) }
}
