import Glibc

/// Where a gateway's files are. A plain value.
public struct GatewayPaths: Sendable {
  /// gateway.yaml.
  public var configuration: String
  public var runDirectory: String
  public var stateDirectory: String

  public init(configuration: String, runDirectory: String, stateDirectory: String) {
    self.configuration = configuration
    self.runDirectory = runDirectory
    self.stateDirectory = stateDirectory
  }

  public var controlSocket: String { runDirectory + "/gwctl.sock" }
  public var pfkeySocket: String { runDirectory + "/pfkey.sock" }
  public var xfrmSocket: String { runDirectory + "/xfrm.sock" }
  /// Where key daemons name their IKE sockets.
  public var ikeSocket: String { runDirectory + "/ike.sock" }
  /// Written on USR1.
  public var reportFile: String { runDirectory + "/gwd.report" }
  var lockFile: String { runDirectory + "/gwd.lock" }
  var numberFile: String { stateDirectory + "/numbers" }
  var policyFile: String { stateDirectory + "/policies" }
}

/// The run directory, held by a lock that dies with the process: two gateways never share one.
final class RunDirectory {
  private let descriptor: Int32
  private let path: String

  init(_ paths: GatewayPaths) throws(GatewayError) {
    try Self.makeDirectory(paths.runDirectory, mode: 0o755)
    try Self.makeDirectory(paths.stateDirectory, mode: 0o700)
    path = paths.lockFile
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .file(path, String(cString: strerror(errno))) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw .alreadyRunning(paths.runDirectory)
    }
    ftruncate(descriptor, 0)
    let line = "\(getpid())\n"
    _ = write(descriptor, line, line.utf8.count)
  }

  /// The file stays: removing it would let two processes hold locks on different files of one name.
  func release() { close(descriptor) }

  private static func makeDirectory(_ path: String, mode: mode_t) throws(GatewayError) {
    if mkdir(path, mode) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
      throw .file(path, String(cString: strerror(errno)))
    }
    try makeDirectory(String(path[..<slash]), mode: 0o755)
    guard mkdir(path, mode) == 0 || errno == EEXIST else { throw .file(path, String(cString: strerror(errno))) }
  }
}

/// Why a gateway did not start, or refused a new configuration.
public enum GatewayError: Error, CustomStringConvertible {
  case file(String, String)
  case alreadyRunning(String)
  case rules([String])
  case network(String)
  case restartNeeded([String])

  public var description: String {
    switch self {
    case .file(let path, let reason): "\(path): \(reason)"
    case .alreadyRunning(let directory):
      "another gwd runs with \(directory); stop it, or give this one a directory of its own with --run-dir"
    case .rules(let messages): messages.joined(separator: "\n")
    case .network(let message): message
    case .restartNeeded(let what): "\(what.joined(separator: ", ")) changed: restart gwd for that; nothing was changed"
    }
  }
}
