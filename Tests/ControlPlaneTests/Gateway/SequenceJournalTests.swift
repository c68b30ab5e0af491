import Engines
import Foundation
import IKEControl
import IPsec
import Testing
import Wire

@testable import ControlPlane

/// What of the SAs' numbers is on disk, and what the database does where it cannot be.
@Suite struct SequenceJournalTests {
  private let path = NSTemporaryDirectory() + "numbers-\(UInt32.random(in: 0...UInt32.max))"
  private let disk = FakeDisk()

  private static func record(_ number: UInt64, _ name: UInt64 = 1) -> NumberRecord {
    NumberRecord(name: Fingerprint(high: name, low: 2), kind: .staticNonces, number: number)
  }

  private func journal() throws -> SequenceJournal { try SequenceJournal(path: path, calls: disk.calls) }

  private static func database(_ journal: SequenceJournal) -> SecurityDatabase {
    let database = SecurityDatabase(engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
    database.keepNumbers(in: journal, secret: journal.secret, records: journal.records)
    return database
  }

  private static func sa(_ spi: UInt32 = 0x1000, key: UInt8 = 0xa7) throws -> SAParameters {
    SAParameters(
      spi: spi, source: try #require(IPAddress("192.0.2.1")), destination: try #require(IPAddress("192.0.2.2")),
      transform: CryptoTransform(
        encryption: .aesGCM16, encryptionKey: SecretBytes(Array(repeating: key, count: 20))))
  }

  @Test func recordsComeBack() throws {
    defer { unlink(path) }
    let first = try journal()
    #expect(first.records == [] && !first.takesMore)
    try first.replace([Self.record(5)])
    try first.append([Self.record(9), Self.record(8, 3)], isSynced: true)
    let second = try journal()
    #expect(second.records == [Self.record(5), Self.record(9), Self.record(8, 3)] && second.secret == first.secret)
    var file = stat()
    #expect(stat(path, &file) == 0 && file.st_mode & 0o777 == 0o600)
  }

  /// Neither the key nor what anybody could compute from it.
  @Test func keysAreNotInIt() throws {
    defer { unlink(path) }
    let first = Self.database(try journal())
    try first.add(try Self.sa(), origin: 0)
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    #expect(bytes.count == 64 + 32)
    #expect(!bytes.indices.dropLast(4).contains { bytes[$0..<$0 + 4].allSatisfy { $0 == 0xa7 } })
    unlink(path)
    let second = Self.database(try journal())
    try second.add(try Self.sa(), origin: 0)
    // Another secret, another name.
    #expect(bytes[64..<80] != [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))[64..<80])
  }

  @Test func whatACrashCutShortIsPassedOver() throws {
    defer { unlink(path) }
    let first = try journal()
    try first.replace([Self.record(5), Self.record(6, 2)])
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for rest in 0..<32 {
      try (whole.dropLast(32) + whole.suffix(32).prefix(rest)).write(to: URL(fileURLWithPath: path))
      #expect(try journal().records == [Self.record(5)])
    }
    // Blocks that a loss of power left empty.
    try (whole + Data(count: 320)).write(to: URL(fileURLWithPath: path))
    #expect(try journal().records.count == 2)
    // What is no journal is not taken for an empty one.
    for text in ["", "abc", String(repeating: "x", count: 500)] {
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(throws: GatewayError.self) { try journal() }
    }
  }

  @Test func aFullDiskLeavesItWhole() throws {
    defer { unlink(path) }
    let first = try journal()
    try first.replace([Self.record(5)])
    disk.isFull.store(true, ordering: .relaxed)
    #expect(throws: NumberJournalError.self) { try first.append([Self.record(7)], isSynced: true) }
    #expect(throws: NumberJournalError.self) { try first.replace([Self.record(8)]) }
    #expect(try SequenceJournal(path: path).records == [Self.record(5)])
    disk.isFull.store(false, ordering: .relaxed)
    try first.append([Self.record(9)], isSynced: true)
    #expect(try SequenceJournal(path: path).records == [Self.record(5), Self.record(9)])
  }

  @Test func whatCannotBeSyncedIsNotReserved() throws {
    defer { unlink(path) }
    let database = Self.database(try journal())
    try database.add(try Self.sa(), origin: 0)
    disk.failsToSync.store(true, ordering: .relaxed)
    #expect(throws: DatabaseError.self) { try database.add(try Self.sa(0x1001, key: 1), origin: 0) }
    // The file is written anew then, which fails as well.
    #expect(throws: DatabaseError.self) { try database.add(try Self.sa(0x1001, key: 1), origin: 0) }
    #expect(database.numberFailure?.hasSuffix("Input/output error") == true)
    disk.failsToSync.store(false, ordering: .relaxed)
    try database.add(try Self.sa(0x1001, key: 1), origin: 0)
    #expect(database.numberFailure == nil)
    #expect(Set(try SequenceJournal(path: path).records.map(\.name)).count == 2)
  }

  @Test func aKeyGoesOnBehindWhatWasReserved() throws {
    defer { unlink(path) }
    try Self.database(journal()).add(try Self.sa(), origin: 0)
    let second = Self.database(try journal())
    try second.add(try Self.sa(0x2000), origin: 0)
    let record = try #require(second.record(try Self.sa(0x2000).identifier))
    #expect(record.sequence == 1 << 23)
  }
}
