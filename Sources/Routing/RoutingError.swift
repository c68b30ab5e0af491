/// Why a routing table refused. Nothing has changed when it is thrown.
public enum RoutingError: Error, Equatable, Sendable, CustomStringConvertible {
  case invalid(String)
  case notFound(String)
  /// A limit was reached.
  case full(String)

  public var description: String {
    switch self {
    case .invalid(let what), .full(let what): what
    case .notFound(let what): "\(what) does not exist"
    }
  }
}
