/// Why there is no TAP. Each description is one line with the remedy.
public enum TapError: Error, Equatable, Sendable, CustomStringConvertible {
  case noDriver
  case noPermission(String)
  case busy(String)
  case invalidName(String)
  case system(name: String, what: String, reason: String)

  public var description: String {
    switch self {
    case .noDriver: "no TAP driver: /dev/net/tun is missing; run: modprobe tun (in a container: --device /dev/net/tun)"
    case .noPermission(let name): "TAP \(name): no permission; run as root or with CAP_NET_ADMIN"
    case .busy(let name): "TAP \(name): an interface of this name is in use; rename the port or remove it (ip link del)"
    case .invalidName(let name): "TAP \(name): an interface's name has 1 to 15 bytes, no space, slash or colon"
    case .system(let name, let what, let reason): "TAP \(name): \(what) failed: \(reason)"
    }
  }
}
