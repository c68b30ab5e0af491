import Foundation

/// OpenIKED's control program: what iked is told goes through it, as its socket's messages are nobody else's.
public struct Ikectl: Sendable {
  public static let defaultSocket = "/run/iked.sock"
  public let socketPath: String
  public var program = "/usr/sbin/ikectl"
  /// A program that hangs is ended.
  public var timeoutSeconds = 15.0

  public init(socketPath: String = Ikectl.defaultSocket) { self.socketPath = socketPath }

  public enum Failure: Error, Sendable, Hashable, CustomStringConvertible {
    case notInstalled(String)
    case notRunning(path: String)
    case permission(path: String)
    case failed(command: String, reason: String)

    public var description: String {
      switch self {
      case .notInstalled(let path): "\(path) is not there: apt install openiked"
      case .notRunning(let path):
        """
        iked is not running? nobody answers at \(path); start it (systemctl start openiked), or name its socket with \
        --socket or as ike: {control: PATH} in gateway.yaml
        """
      case .permission(let path): "\(path): permission denied; iked's socket is for root"
      case .failed(let command, let reason): "ikectl \(command): \(reason)"
      }
    }
  }

  /// The process that listens; throws where none does.
  public func process() throws(Failure) -> pid_t? {
    do {
      return try LocalStream(path: socketPath, deadline: .now + .seconds(2)).peerProcess
    } catch {
      switch error {
      case .permission: throw .permission(path: socketPath)
      case .system(let reason): throw .failed(command: "connect", reason: reason)
      default: throw .notRunning(path: socketPath)
      }
    }
  }

  /// Its standard output.
  @discardableResult
  public func run(_ words: String...) throws(Failure) -> String { try run(words) }

  @discardableResult
  public func run(_ words: [String]) throws(Failure) -> String {
    _ = try process()
    let command = words.joined(separator: " ")
    guard FileManager.default.isExecutableFile(atPath: program) else { throw .notInstalled(program) }
    let task = Process()
    task.executableURL = URL(fileURLWithPath: program)
    task.arguments = ["-s", socketPath] + words
    let (output, errors) = (Pipe(), Pipe())
    (task.standardInput, task.standardOutput, task.standardError) = (FileHandle.nullDevice, output, errors)
    do { try task.run() } catch { throw .failed(command: command, reason: "\(error)") }
    let id = task.processIdentifier
    let watchdog = DispatchWorkItem { kill(id, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + timeoutSeconds, execute: watchdog)
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaint = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    task.waitUntilExit()
    watchdog.cancel()
    guard task.terminationReason == .exit else {
      throw .failed(command: command, reason: "no end after \(Int(timeoutSeconds)) s")
    }
    guard task.terminationStatus == 0 else {
      let reason = complaint.isEmpty ? text : complaint
      throw .failed(command: command, reason: reason.trimmingCharacters(in: .whitespacesAndNewlines))
    }
    return text
  }
}
