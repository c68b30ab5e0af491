import Engines
import Foundation
import IKEControl
import IPsec
import Synchronization
import Testing
import Wire

@testable import ControlPlane

/// What of the policies is on disk after each change, and comes back.
@Suite struct PolicyJournalTests {
  private let path = NSTemporaryDirectory() + "policies-\(UInt32.random(in: 0...UInt32.max))"
  private let disk = FakeDisk()
  private let database = SecurityDatabase(
    engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
  private let journal: PolicyJournal

  init() {
    let journal = PolicyJournal(path: path, calls: disk.calls)
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
  private func kept() throws -> [PolicyParameters] {
    try PolicyJournal(path: path).read().sorted { "\($0.selector)" < "\($1.selector)" }
  }

  @Test func daemonsPoliciesComeBackAsOfNobody() throws {
    defer { unlink(path) }
    #expect(try kept() == [])
    journal.begin()
    for policy in try [
      policy(1, .xfrm(7)), policy(2, .pfkey(9)), policy(3, .configuration), policy(4, .xfrm(7), type: .bypass),
      policy(5, .xfrm(7), type: .deny),
    ] { _ = try database.add(policy, replacing: false, origin: 0) }
    #expect(try kept() == [policy(1, .xfrm(0)), policy(2, .pfkey(0)), policy(5, .xfrm(0), type: .deny)])
    var file = stat()
    #expect(stat(path, &file) == 0 && file.st_mode & 0o777 == 0o600)
  }

  /// A crash between the answer and the next look of the clock loses nothing.
  @Test func eachChangeIsThereAtOnce() throws {
    defer { unlink(path) }
    journal.begin()
    let index = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    #expect(disk.syncs.load(ordering: .relaxed) >= 2)
    _ = try database.add(policy(2, .xfrm(1)), replacing: false, origin: 0)
    // Lets packets pass now: not kept.
    _ = try database.add(policy(2, .xfrm(1), type: .bypass), replacing: true, origin: 0)
    #expect(try kept() == [policy(1, .xfrm(0))])
    try database.deletePolicy(index: index, origin: 0)
    #expect(try kept() == [])
    _ = try database.add(policy(3, .xfrm(1)), replacing: false, origin: 0)
    #expect(try kept() == [policy(3, .xfrm(0))])
    database.flushPolicies(owner: nil, origin: 0)
    #expect(try kept() == [])
  }

  @Test func thousandsAreSyncedTogetherAndTheFileStaysShort() throws {
    defer { unlink(path) }
    journal.begin()
    func add(_ round: Int) throws {
      for number in 0..<1500 {
        var policy = try policy(UInt8(number % 250), .xfrm(1))
        policy.interfaceID = UInt32(number / 250 + 1)
        policy.priority = UInt32(round)
        _ = try database.add(policy, replacing: true, origin: 0)
      }
    }
    try add(0)
    #expect(try kept().count == 1500)
    // However fast the disk is: a part of the time is the database's.
    #expect(disk.syncs.load(ordering: .relaxed) < 1500)
    journal.write()
    for round in 1..<6 {
      try add(round)
      journal.write()
    }
    var file = stat()
    #expect(stat(path, &file) == 0 && file.st_size < 3 << 20)
    #expect(try kept().count == 1500 && kept().allSatisfy { $0.priority == 5 })
  }

  @Test func whatIsNotAPolicyIsPassedOver() throws {
    defer { unlink(path) }
    journal.begin()
    _ = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let json = try #require(text.split(separator: " ", maxSplits: 1).last)
    try ("{}\n+\n+x y\n-7\n+9 {\"direction\":\"out\"\n\n" + json + text.dropLast(9)).write(
      toFile: path, atomically: true, encoding: .utf8)
    // As version 0.1.0 wrote it, without a number.
    #expect(try kept() == [policy(1, .xfrm(0))])
  }

  /// Before the policies of the last process stand again, nothing is taken from the file: whatever ends this one.
  @Test func whatIsNotTakenOverStays() throws {
    defer { unlink(path) }
    journal.begin()
    _ = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    let next = PolicyJournal(path: path)
    #expect(try next.read().count == 1)
    next.write()
    #expect(try kept().count == 1)
    next.begin()
    #expect(try kept() == [])
  }

  @Test func aFullDiskIsToldOfAndMadeUpFor() throws {
    defer { unlink(path) }
    journal.begin()
    _ = try database.add(policy(1, .xfrm(1)), replacing: false, origin: 0)
    disk.isFull.store(true, ordering: .relaxed)
    _ = try database.add(policy(2, .xfrm(1)), replacing: false, origin: 0)
    #expect(journal.failure?.hasSuffix("No space left on device") == true)
    journal.write()
    // What was there is there, and nothing half.
    #expect(journal.failure != nil)
    #expect(try kept() == [policy(1, .xfrm(0))])
    disk.isFull.store(false, ordering: .relaxed)
    journal.write()
    #expect(journal.failure == nil)
    #expect(try kept().count == 2)
    #expect(access(path + ".new", F_OK) != 0)
  }
}

/// A disk that is full, or fails, when it is told to. Half of what a full one is given is written.
final class FakeDisk: Sendable {
  let isFull = Atomic(false)
  let failsToSync = Atomic(false)
  let syncs = Atomic(0)

  var calls: PrivateFile.Calls {
    var calls = PrivateFile.Calls()
    calls.write = { [self] descriptor, bytes, count in
      guard isFull.load(ordering: .relaxed) else { return write(descriptor, bytes!, count) }
      if count > 1 { return write(descriptor, bytes!, count / 2) }
      errno = ENOSPC
      return -1
    }
    calls.sync = { [self] descriptor in
      syncs.wrappingAdd(1, ordering: .relaxed)
      guard failsToSync.load(ordering: .relaxed) else { return fdatasync(descriptor) }
      errno = EIO
      return -1
    }
    return calls
  }
}
