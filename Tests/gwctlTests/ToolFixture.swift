import ControlAPI
import ControlAPITesting
import ControlPlane
import Foundation
import Logging

/// The programs as built, and a server with a fake gateway for them to speak to.
struct ToolFixture {
  let gateway = FakeGateway()
  let directory: String
  let server: APIServer

  struct Result: Sendable {
    var status: Int32
    var out: String
    var err: String
  }

  static func with(_ body: (ToolFixture) async throws -> Void) async throws {
    let directory = FileManager.default.temporaryDirectory.path + "/gwctl-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let fixture = ToolFixture(directory: directory)
    try FileManager.default.createSymbolicLink(
      atPath: directory + "/ipsecctl", withDestinationPath: Self.products + "/gwctl")
    let server = fixture.server
    try await blocking { try server.start() }
    let outcome: Swift.Result<Void, any Error>
    do { outcome = .success(try await body(fixture)) } catch { outcome = .failure(error) }
    try await blocking { server.stop() }
    try? FileManager.default.removeItem(atPath: directory)
    try outcome.get()
  }

  /// Off Swift's pool.
  private static func blocking(_ body: @escaping @Sendable () throws -> Void) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      Thread.detachNewThread { continuation.resume(with: Swift.Result { try body() }) }
    }
  }

  private init(directory: String) {
    self.directory = directory
    var configuration = APIServer.Configuration(socketPath: directory + "/gwctl.sock")
    configuration.group = "no-such-group"
    server = APIServer(
      gateway: gateway, configuration: configuration,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// Where SwiftPM puts programs and test bundles alike.
  static var products: String {
    URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent().path
  }

  func gwctl(_ arguments: String..., input: String? = nil) async throws -> Result {
    try await run(Self.products + "/gwctl", ["--run-dir", directory] + arguments, input)
  }

  func ipsecctl(_ arguments: String..., input: String? = nil) async throws -> Result {
    try await run(directory + "/ipsecctl", arguments, input)
  }

  /// A file that only its owner can read, as ipsec.conf has to be.
  func file(_ name: String, _ text: String) throws -> String {
    let path = directory + "/" + name
    _ = FileManager.default.createFile(
      atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    return path
  }

  /// Any program, as an outside witness.
  func run(_ program: String, _ arguments: [String], _ input: String? = nil) async throws -> Result {
    let directory = directory
    return try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread {
        continuation.resume(
          with: Swift.Result { try Self.execute(program, arguments, input, runDirectory: directory) })
      }
    }
  }

  private static func execute(
    _ program: String, _ arguments: [String], _ input: String?, runDirectory: String
  ) throws -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.environment = ["GW_RUN_DIR": runDirectory, "PATH": "/usr/bin:/bin", "TZ": "UTC", "LANG": "C"]
    let (out, err, stdin) = (Pipe(), Pipe(), Pipe())
    (process.standardOutput, process.standardError, process.standardInput) = (out, err, stdin)
    try process.run()
    // A program that hangs is a failure, not the end of the test run.
    let id = process.processIdentifier
    let watchdog = DispatchWorkItem { kill(id, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + 30, execute: watchdog)
    defer { watchdog.cancel() }
    if let input { stdin.fileHandleForWriting.write(Data(input.utf8)) }
    try stdin.fileHandleForWriting.close()
    // Neither stream is longer than a pipe holds, so one after the other will do.
    let texts = [out, err].map { String(decoding: $0.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self) }
    process.waitUntilExit()
    return Result(status: process.terminationStatus, out: texts[0], err: texts[1])
  }
}

/// The LANs of the mission's example, keyed by hand.
enum Example {
  static let authenticationKey = String(repeating: "0123456789abcdef", count: 4)
  static let encryptionKey = String(repeating: "fedcba9876543210", count: 2)
  static let conf = """
    lan1 = "192.168.60.0/24"
    flow esp from $lan1 to 172.20.1.0/24 local 198.51.100.1 peer 198.51.100.2
    esp tunnel from 198.51.100.1 to 198.51.100.2 spi 0x1000:0x1001 auth hmac-sha2-256 enc aes \\
      authkey 0x\(authenticationKey):0x\(authenticationKey) \\
      enckey 0x\(encryptionKey):0x\(encryptionKey)

    """
  static let flows = """
    flow esp in from 172.20.1.0/24 to 192.168.60.0/24 local 198.51.100.1 peer 198.51.100.2 type require
    flow esp out from 192.168.60.0/24 to 172.20.1.0/24 local 198.51.100.1 peer 198.51.100.2 type require

    """
  static let sas = """
    esp tunnel from 198.51.100.1 to 198.51.100.2 spi 0x00001000 auth hmac-sha2-256 enc aes
    esp tunnel from 198.51.100.2 to 198.51.100.1 spi 0x00001001 auth hmac-sha2-256 enc aes

    """
}
