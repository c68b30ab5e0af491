import Glibc

/// Why the kernel's networking could not be read or changed.
public enum HostNetworkError: Error, Equatable, Sendable, CustomStringConvertible {
  case system(what: String, code: Int32)
  case noInterface(String)

  public var description: String {
    switch self {
    case .system(let what, EPERM), .system(let what, EACCES): "\(what): not permitted (CAP_NET_ADMIN is needed)"
    case .system(let what, let code): "\(what): \(String(cString: strerror(code)))"
    case .noInterface(let name): "there is no interface named \(name)"
    }
  }
}
