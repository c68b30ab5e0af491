import Foundation
import Threads

/// OpenIKED's control program: what iked is told goes through it, as its socket's messages are nobody else's.
public struct Ikectl: Sendable {
  public static let defaultSocket = "/run/iked.sock"
  public let socketPath: String
  public var program = "/usr/sbin/ikectl"
  /// A program that hangs is ended.
  public var timeoutSeconds = 15.0
  private let interrupt: Interrupt?

  /// - Parameter interrupt: once raised, what runs is ended.
  public init(socketPath: String = Ikectl.defaultSocket, interrupt: Interrupt? = nil) {
    self.socketPath = socketPath
    self.interrupt = interrupt
  }

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
      return try LocalStream(path: socketPath, deadline: .now + .seconds(2), interrupt: interrupt).peerProcess
    } catch {
      switch error {
      case .permission: throw .permission(path: socketPath)
      case .stranger(let user):
        throw .failed(command: "connect", reason: "\(socketPath): user \(user) listens there, not root")
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
    let task = BoundedCommand(
      program: program, arguments: ["-s", socketPath] + words, timeout: .seconds(timeoutSeconds), interrupt: interrupt)
    let outcome: BoundedCommand.Outcome
    do throws(BoundedCommand.Failure) { outcome = try task.run() } catch {
      switch error {
      case .start(let reason): throw .failed(command: command, reason: reason)
      case .endless: throw .failed(command: command, reason: "no end after \(Int(timeoutSeconds)) s")
      case .interrupted: throw .failed(command: command, reason: "interrupted")
      case .signal(let number): throw .failed(command: command, reason: "ended by signal \(number)")
      }
    }
    guard outcome.status == 0 else {
      let reason = outcome.errors.isEmpty ? outcome.output : outcome.errors
      throw .failed(command: command, reason: reason.trimmingCharacters(in: .whitespacesAndNewlines))
    }
    return outcome.output
  }
}
