import ArgumentParser
import ConfigurationFiles
import ControlAPI
import Glibc
import IKEControl

extension KeyDaemon.Kind: ExpressibleByArgument {}

/// Which key daemon is meant.
struct KeyDaemonOptions: ParsableArguments {
  @Option(help: "charon or iked (default: what gwd says, else the one whose socket is there).")
  var daemon: KeyDaemon.Kind?

  @Option(
    help: ArgumentHelp(
      "charon's VICI socket, or iked's control socket (default: what gwd says, else /run/charon.vici, /run/iked.sock).",
      valueName: "path"), completion: .file())
  var socket: String?

  enum Target {
    case charon(path: String)
    case iked(path: String)
  }

  func target(_ global: GlobalOptions) throws(Failure) -> Target {
    let told = try? ControlClient(socketPath: global.socketPath, timeoutSeconds: 5).keyDaemon()
    let kind = daemon ?? told?.daemon ?? guess()
    switch kind {
    case .none: throw Failure(.configuration, ["gateway.yaml says ike: {daemon: none}; --daemon names one"])
    case .charon:
      return .charon(path: socket ?? (told?.daemon == .charon ? told?.socketPath : nil) ?? VICIConnection.defaultPath)
    case .iked:
      return .iked(path: socket ?? (told?.daemon == .iked ? told?.socketPath : nil) ?? Ikectl.defaultSocket)
    }
  }

  private func guess() -> KeyDaemon.Kind {
    if let socket { return socket.hasSuffix("iked.sock") ? .iked : .charon }
    return access(VICIConnection.defaultPath, F_OK) != 0 && access(Ikectl.defaultSocket, F_OK) == 0 ? .iked : .charon
  }

  /// One of the two closures, with what it speaks to.
  func with(
    _ global: GlobalOptions, charon: (VICIConnection) throws -> Void, iked: (Ikectl) throws -> Void
  ) throws {
    do {
      switch try target(global) {
      case .charon(let path): try charon(try VICIConnection(path: path))
      case .iked(let path): try iked(Ikectl(socketPath: path))
      }
    } catch let error as VICIError {
      throw Failure(error)
    } catch let error as Ikectl.Failure {
      throw Failure(error)
    }
  }
}

extension Failure {
  init(_ error: VICIError) {
    let status: ExitStatus =
      switch error {
      case .notRunning, .timedOut, .closed: .unavailable
      case .permission: .noPermission
      default: .failure
      }
    self.init(status, [error.description])
  }

  init(_ error: Ikectl.Failure) {
    let status: ExitStatus =
      switch error {
      case .notRunning, .notInstalled: .unavailable
      case .permission: .noPermission
      case .failed: .failure
      }
    self.init(status, [error.description])
  }
}
