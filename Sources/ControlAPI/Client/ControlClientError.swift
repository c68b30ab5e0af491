/// Why a request brought no answer.
public enum ControlClientError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Nobody listens: no socket, or one that is left over.
  case notRunning(socketPath: String)
  /// The socket is there, and this user may not open it.
  case permission(socketPath: String)
  case timedOut(seconds: Double)
  /// The gateway refused, in its words.
  case refused(ControlError)
  case transport(String)

  public var description: String {
    switch self {
    case .notRunning(let path): "gwd is not running? no socket at \(path)"
    case .permission(let path): "\(path): permission denied; the socket is for root and the group gw"
    case .timedOut(let seconds): "no answer from gwd within \(Int(seconds)) s"
    case .refused(let error): error.detail
    case .transport(let message): message
    }
  }
}
