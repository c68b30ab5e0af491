import Glibc

/// Files with what only root may read.
public enum PrivateFile {
  public struct Failure: Error, CustomStringConvertible {
    public let path: String
    public let reason: String
    public var description: String { "\(path): \(reason)" }

    /// With what errno says.
    public init(_ path: String) {
      self.path = path
      reason = String(cString: strerror(errno))
    }
  }

  /// What a file is written by. Tests put in what fails.
  public struct Calls: Sendable {
    public var write: @Sendable (_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int = {
      Glibc.write($0, $1, $2)
    }
    public var sync: @Sendable (_ descriptor: Int32) -> Int32 = { fdatasync($0) }
    public init() {}
  }

  /// Whole or not at all, for root's eyes; `isSynced`: also after a loss of power.
  public static func write(
    _ bytes: some Collection<UInt8>, to path: String, isSynced: Bool = false, calls: Calls = Calls()
  ) throws(Failure) {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw Failure(temporary) }
    defer { close(descriptor) }
    do throws(Failure) {
      try append(bytes, to: descriptor, temporary, calls)
      guard !isSynced || calls.sync(descriptor) == 0, rename(temporary, path) == 0 else { throw Failure(path) }
    } catch {
      // It would take room that may be what is missing.
      unlink(temporary)
      throw error
    }
    if isSynced { try syncFolder(of: path) }
  }

  public static func write(_ text: String, to path: String, isSynced: Bool = false) throws(Failure) {
    try write(text.utf8, to: path, isSynced: isSynced)
  }

  /// Behind what `descriptor`, the file at `path`, holds. With an error some of it may be there.
  public static func append(
    _ bytes: some Collection<UInt8>, to descriptor: Int32, _ path: String, _ calls: Calls = Calls()
  ) throws(Failure) {
    var bytes = Array(bytes)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { calls.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw Failure(path) }
      bytes = bytes.dropFirst(count)
    }
  }

  /// A name is on disk when its folder is.
  private static func syncFolder(of path: String) throws(Failure) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failure(folder) }
    defer { close(descriptor) }
    // Not every file system lets a folder be synced; those that do not keep names as they see fit.
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw Failure(folder) }
  }
}
