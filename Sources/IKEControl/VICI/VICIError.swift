/// Why charon was not asked, or did not do what it was asked.
public enum VICIError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Nobody listens: no socket, or one that is left over.
  case notRunning(path: String)
  case permission(path: String)
  /// Somebody else's process listens there.
  case stranger(path: String, user: UInt32)
  case timedOut(command: String, seconds: Double)
  /// The daemon closed the connection.
  case closed
  case system(String)
  /// The daemon does not have the command or the event: an older one, or a plugin that is not loaded.
  case unknown(String)
  /// What the daemon sent is no VICI.
  case malformed(String)
  /// A name of more than 255 bytes, or a value of more than 65535.
  case tooLong(String)
  /// In the daemon's words.
  case refused(command: String, reason: String)

  public var description: String {
    switch self {
    case .notRunning(let path):
      """
      charon is not running? nobody answers at \(path); start it (systemctl start strongswan), or name its socket \
      with --socket or as ike: {vici: PATH} in gateway.yaml
      """
    case .permission(let path): "\(path): permission denied; charon's socket is for root"
    case .stranger(let path, let user):
      "\(path): user \(user) listens there, not root; it is told nothing"
    case .timedOut(let command, let seconds): "charon did not answer \(command) within \(Int(seconds)) s"
    case .closed: "charon closed the connection"
    case .system(let reason): reason
    case .unknown(let name): "this charon does not have \(name)"
    case .malformed(let what): "an answer of charon that is not understood: \(what)"
    case .tooLong(let name): "\(name.prefix(64)): too long for VICI"
    case .refused(let command, let reason): "\(command): \(reason)"
    }
  }
}
