import Foundation
import Glibc

/// A local socket at which another user's program, nobody's, listens and says nothing. Root's alone to make.
public final class StrangersSocket {
  public enum Kind: String { case stream = "SOCK_STREAM", sequencedPackets = "SOCK_SEQPACKET" }

  public let directory: String
  public let path: String
  private let stranger = Process()

  public init(named name: String, _ kind: Kind) throws {
    directory = NSTemporaryDirectory() + "stranger-\(UUID().uuidString.prefix(8))"
    path = directory + "/" + name
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    chmod(directory, 0o777)
    let program = """
      import socket, sys
      socket.setdefaulttimeout(60)
      listener = socket.socket(socket.AF_UNIX, socket.\(kind.rawValue)); listener.bind(sys.argv[1]); listener.listen()
      while True: listener.accept()[0].recv(1)
      """
    stranger.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    stranger.arguments = [
      "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "/usr/bin/python3", "-c", program, path,
    ]
    // SIGTERM may be blocked in it, as in the thread that starts it; and it must not hold the output of the tests.
    (stranger.standardOutput, stranger.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
    try stranger.run()
    for _ in 0..<6000 where access(path, F_OK) != 0 { usleep(10_000) }
    usleep(100_000)
  }

  public func stop() {
    kill(stranger.processIdentifier, SIGKILL)
    try? FileManager.default.removeItem(atPath: directory)
  }
}
