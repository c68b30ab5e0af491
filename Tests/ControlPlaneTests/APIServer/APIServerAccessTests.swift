import ControlAPI
import ControlAPITesting
import Foundation
import Glibc
import Testing

@testable import ControlPlane

/// Who may connect, and who sees keys.
@Suite struct APIServerAccessTests {
  static var isRoot: Bool { getuid() == 0 }
  private static let hex = "a0a1a2a3a4a5a6a7"

  private func mode(_ path: String) -> (mode: mode_t, group: gid_t) {
    var status = stat()
    stat(path, &status)
    return (status.st_mode & 0o7777, status.st_gid)
  }

  @Test func withoutTheGroupTheSocketIsOurs() async throws {
    try await ServerFixture.with { #expect(mode($0.path).mode == 0o600) }
  }

  @Test(.enabled(if: isRoot)) func withTheGroupItMayConnect() async throws {
    try await ServerFixture.with(group: "nogroup") { fixture async throws in
      let (mode, group) = mode(fixture.path)
      #expect(mode == 0o660)
      #expect(group == 65534)
    }
  }

  @Test func nothingIsLeftBesideTheSocket() async throws {
    try await ServerFixture.with { fixture async throws in
      #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.directory) == ["gwctl.sock"])
    }
  }

  @Test(.enabled(if: isRoot)) func keysAreForRootAlone() async throws {
    try await ServerFixture.with { fixture async throws in
      let shown = try await fixture.call { try $0.securityAssociations(keys: true) }
      #expect(shown[0].parameters.transform.encryptionKey == Samples.key)
      let hidden = try await fixture.curl(["http://gw/v1/sa"])
      #expect(!hidden.body.contains(Self.hex))
      // Even to one whom the socket's mode lets in.
      chmod(fixture.directory, 0o755)
      chmod(fixture.path, 0o666)
      for path in ["/v1/sa?keys=1", "/v1/events?keys=1"] {
        let refused = try await fixture.curl(["http://gw" + path], as: "nobody")
        #expect(refused.status == 403)
        #expect(!refused.body.contains(Self.hex))
      }
      let plain = try await fixture.curl(["http://gw/v1/sa"], as: "nobody")
      #expect(plain.status == 200)
      #expect(plain.body.contains("encryption_key_bits") && !plain.body.contains(Self.hex))
    }
  }

  @Test func aStaleSocketIsReplaced() async throws {
    let fixture = try ServerFixture()
    let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: fixture.path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(stale, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    close(stale)
    #expect(bound == 0)
    #expect(FileManager.default.fileExists(atPath: fixture.path))
    try await fixture.server.started()
    #expect(try await fixture.call { try $0.status() }.version == "1.0.0")
    await fixture.close()
  }

  @Test func aLiveSocketAndAFileAreLeftAlone() async throws {
    try await ServerFixture.with { fixture async throws in
      let other = APIServer(
        gateway: fixture.gateway, configuration: .init(socketPath: fixture.path), logger: .init(label: "other"))
      await #expect(throws: APIServer.StartFailure.self) { try await other.started() }
      #expect(try await fixture.call { try $0.status() }.version == "1.0.0")
      let file = fixture.directory + "/file"
      try Data("x".utf8).write(to: URL(fileURLWithPath: file))
      let third = APIServer(
        gateway: fixture.gateway, configuration: .init(socketPath: file), logger: .init(label: "third"))
      await #expect(throws: APIServer.StartFailure.self) { try await third.started() }
      #expect(try String(contentsOfFile: file, encoding: .utf8) == "x")
    }
  }

  @Test func aPathTooLongIsSaidSo() async throws {
    let fixture = try ServerFixture()
    let path = fixture.directory + "/" + String(repeating: "x", count: 120)
    let server = APIServer(
      gateway: fixture.gateway, configuration: .init(socketPath: path), logger: .init(label: "long"))
    await #expect(throws: APIServer.StartFailure.self) { try await server.started() }
    #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.directory).isEmpty)
    await fixture.close()
  }
}
