import Glibc

/// The files being read, the including ones below the included.
struct SourceStack {
  struct Source {
    let name: String
    let bytes: [UInt8]
    var position = 0
    var line: Int
    let device: dev_t
    let inode: ino_t
  }

  /// Why a file was not opened: what `warn(3)` says after the program's name.
  struct Refusal: Error { var message: String }

  /// The largest file, in bytes.
  static let fileSizeLimit = 16 << 20
  static let depthLimit = 16

  private(set) var sources: [Source] = []

  var current: Source { sources[sources.count - 1] }
  var name: String { sources.last?.name ?? "" }
  var line: Int {
    get { sources.last?.line ?? 0 }
    set { sources[sources.count - 1].line = newValue }
  }

  /// Text that is in memory, as the outermost file.
  mutating func push(text: [UInt8], name: String) {
    sources.append(Source(name: name, bytes: text, line: 1, device: 0, inode: 0))
  }

  /// `secret`: only root or the user may own it, and no one else read or change it, as it may hold keys.
  mutating func push(file: String, secret: Bool) throws(Refusal) {
    guard sources.count < Self.depthLimit else {
      throw Refusal(message: "pushfile: \(file): more than \(Self.depthLimit) files deep")
    }
    let isStandardInput = sources.isEmpty && file == "-"
    let contents: TextFile.Contents
    do {
      contents =
        isStandardInput
        ? try TextFile.read(descriptor: STDIN_FILENO, limit: Self.fileSizeLimit)
        : try TextFile.read(file, limit: Self.fileSizeLimit)
    } catch {
      throw Refusal(message: "pushfile: \(file): \(error.message)")
    }
    if secret && !isStandardInput { try Self.checkSecrecy(contents, file) }
    guard isStandardInput || !sources.contains(where: { $0.device == contents.device && $0.inode == contents.inode })
    else {
      throw Refusal(message: "pushfile: \(file): includes itself")
    }
    // An included file's first newline is the one that ends the `include` line.
    sources.append(
      Source(
        name: isStandardInput ? "stdin" : file, bytes: contents.bytes, line: sources.isEmpty ? 1 : 0,
        device: contents.device, inode: contents.inode))
  }

  private static func checkSecrecy(_ contents: TextFile.Contents, _ file: String) throws(Refusal) {
    guard contents.owner == 0 || contents.owner == getuid() else {
      throw Refusal(message: "\(file): owner not root or current user")
    }
    guard contents.mode & (S_IWGRP | S_IXGRP | S_IRWXO) == 0 else {
      throw Refusal(message: "\(file): group writable or world read/writable")
    }
  }

  /// False: the outermost file is the only one left.
  mutating func pop() -> Bool {
    guard sources.count > 1 else { return false }
    sources.removeLast()
    return true
  }

  /// The next byte of the current file; nil at its end.
  mutating func next() -> UInt8? {
    let top = sources.count - 1
    guard top >= 0, sources[top].position < sources[top].bytes.count else { return nil }
    defer { sources[top].position += 1 }
    return sources[top].bytes[sources[top].position]
  }
}
