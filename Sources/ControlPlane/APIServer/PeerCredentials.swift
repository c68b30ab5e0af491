import ControlAPI
import Glibc
import NIOCore

/// Who is at the other end of a Unix socket, as the kernel took it down at `connect` (SO_PEERCRED, unix(7)).
/// The layout is that of `struct ucred`.
struct PeerCredentials: Sendable {
  var processID: pid_t = 0
  var userID: uid_t = .max
  var groupID: gid_t = .max

  var isRoot: Bool { userID == 0 }

  /// Fails closed: a peer that cannot be asked for is not let through.
  static func of(_ channel: any Channel) async throws(ControlError) -> PeerCredentials {
    guard let provider = channel as? any SocketOptionProvider else {
      throw ControlError(.forbidden, "the connection has no peer credentials")
    }
    do {
      return try await provider.unsafeGetSocketOption(
        level: NIOBSDSocket.OptionLevel(rawValue: SOL_SOCKET), name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)
      ).get()
    } catch {
      throw ControlError(.forbidden, "the connection has no peer credentials")
    }
  }
}
