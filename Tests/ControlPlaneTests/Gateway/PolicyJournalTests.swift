import Engines
import Foundation
import IPsec
import Testing
import Wire

@testable import ControlPlane

/// What of the policies is on disk after each change, and comes back.
@Suite struct PolicyJournalTests {
  private let path = NSTemporaryDirectory() + "policies-\(UInt32.random(in: 0...UInt32.max))"
  private let database = SecurityDatabase(
    engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
  private let journal: PolicyJournal

  init() {
    let journal = PolicyJournal(path: path)
    self.journal = journal
    _ = database.subscribe { event, _ in journal.note(event) }
  }

  private func policy(_ number: UInt8, _ owner: Owner, type: PolicyType = .require) throws -> PolicyParameters {
    let source = try #require(IPPrefix("10.0.\(number).0/24"))
    let destination = try #require(IPPrefix("10.1.\(number).0/24"))
    let (local, peer) = (try #require(IPAddress("192.0.2.1")), try #require(IPAddress("192.0.2.2")))
    let templates = [SATemplate(source: local, destination: peer, requestID: UInt32(number))]
    return PolicyParameters(
      direction: .out, selector: Selector(source: source, destination: destination), type: type,
      templates: type == .require ? templates : [], owner: owner)
  }

  /// As a new process reads it.
  private func kept() -> [PolicyParameters] {
    PolicyJournal(path: path).read().sorted { "\($0.selector)" < "\($1.selector)" }
  }

  @Test func daemonsPoliciesComeBackAsOfNobody() throws {
    defer { unlink(path) }
    #expect(kept() == [])
    for policy in try [
      policy(1, .xfrm(7)), policy(2, .pfkey(9)), policy(3, .configuration), policy(4, .xfrm(7), type: .bypass),
      policy(5, .xfrm(7), type: .deny),
    ] { _ = try database.add(policy, replacing: false, origin: 0) }
    try journal.write(database)
    #expect(kept() == (try [policy(1, .xfrm(0)), policy(2, .pfkey(0)), policy(5, .xfrm(0), type: .deny)]))
    var file = stat()
    #expect(stat(path, &file) == 0 && file.st_mode & 0o777 == 0o600)
  }

  @Test func changesAreFollowed() async throws {
    defer { unlink(path) }
    let index = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    _ = try database.add(policy(2, .xfrm(1)), replacing: false, origin: 0)
    // Lets packets pass now: not kept.
    _ = try database.add(policy(2, .xfrm(1), type: .bypass), replacing: true, origin: 0)
    try await settle(1)
    #expect(kept() == [try policy(1, .xfrm(0))])
    try database.deletePolicy(index: index, origin: 0)
    try await settle(0)
    _ = try database.add(policy(3, .xfrm(1)), replacing: false, origin: 0)
    try await settle(1)
    database.flushPolicies(owner: nil, origin: 0)
    try await settle(0)
  }

  @Test func thousandsAreWrittenByParts() async throws {
    defer { unlink(path) }
    for number in 0..<1500 {
      var policy = try policy(UInt8(number % 250), .xfrm(1))
      policy.interfaceID = UInt32(number / 250 + 1)
      _ = try database.add(policy, replacing: false, origin: 0)
    }
    try journal.write(database)
    #expect(kept().count < 1500)
    try await settle(1500)
  }

  @Test func whatIsNotAPolicyIsPassedOver() throws {
    defer { unlink(path) }
    _ = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    try journal.write(database)
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try ("{}\n" + text + "{\"direction\":\"out\"\n\n" + text.dropLast(9)).write(
      toFile: path, atomically: true, encoding: .utf8)
    #expect(kept() == [try policy(1, .xfrm(0))])
  }

  /// Writes until so many are kept: there are pauses between two writings.
  private func settle(_ count: Int) async throws {
    for _ in 0..<400 {
      try journal.write(database)
      if kept().count == count { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("\(kept().count) policies are kept, not \(count)")
  }
}
