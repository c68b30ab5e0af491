import Foundation
import Glibc

/// Two network namespaces joined by a veth pair, for one test: `wan` here, `peer` there.
///
///     rt-a-N (the test's thread)  wan ──── peer  rt-b-N
final class NetworkNamespacePair: @unchecked Sendable {
  let here: String
  let there: String

  init() throws {
    let number = "\(getpid())-\(UInt16.random(in: 0...UInt16.max))"
    here = "rt-a-\(number)"
    there = "rt-b-\(number)"
    for name in [here, there] { try Self.run("ip netns add \(name)") }
    try Self.run("ip -n \(here) link add wan type veth peer name peer netns \(there)")
    try Self.run("ip -n \(there) link set peer address 02:00:00:00:00:02")
    // Addresses are in use at once, without a second of duplicate address detection.
    try Self.run("ip netns exec \(there) sysctl -qw net.ipv6.conf.peer.accept_dad=0")
    try Self.run("ip netns exec \(here) sysctl -qw net.ipv6.conf.wan.accept_dad=0")
    try Self.run("ip -n \(there) addr add 198.51.100.2/24 dev peer")
    try Self.run("ip -n \(there) addr add 2001:db8:1::2/64 dev peer")
    try Self.run("ip -n \(there) link set peer up")
    try Self.run("ip -n \(here) link set lo up")
  }

  /// To be called at the end: processes end before the last object is gone.
  func remove() {
    for name in [here, there] { _ = try? Self.run("ip netns del \(name)") }
  }

  func ip(_ arguments: String) throws { try Self.run("ip -n \(here) \(arguments)") }

  struct Failure: Error, CustomStringConvertible { let description: String }

  @discardableResult
  static func run(_ command: String) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", command + " 2>&1"]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw Failure(description: "\(command): \(output)") }
    return output
  }

  /// setns(2), which Swift's C library module does not show; 0x40000000 is CLONE_NEWNET.
  private static let enterNamespace = dlsym(nil, "setns").map {
    unsafeBitCast($0, to: (@convention(c) (Int32, Int32) -> Int32).self)
  }

  /// Runs `body` on a thread of its own that lives in the namespace `here`; what it opens there belongs there.
  func inside(_ body: @escaping @Sendable () throws -> Void) throws {
    final class Outcome: @unchecked Sendable { var error: (any Error)? }
    let outcome = Outcome()
    let name = here
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      defer { done.signal() }
      let descriptor = open("/run/netns/\(name)", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0, Self.enterNamespace?(descriptor, 0x4000_0000) == 0 else {
        outcome.error = Failure(description: "entering \(name): \(String(cString: strerror(errno)))")
        return
      }
      close(descriptor)
      do { try body() } catch { outcome.error = error }
    }
    thread.start()
    done.wait()
    if let error = outcome.error { throw error }
  }
}
