import COpenSSL
import Foundation
import IKEControl
import IPsec

/// Sequence numbers of SAs with static keys, across restarts. A peer refuses what is behind its replay window, and a
/// number must not stand for two packets; so numbers are reserved on disk before they are used, and after a crash the
/// gateway begins behind the reserved ones. Inbound, the highest number seen is kept, so that a restart does not open the
/// window to what came before (but for the last second before a crash). Keys are not in the file: an SA is known by a
/// digest of its identity and keys, and with new keys begins at 0. Control thread.
final class SequenceJournal {
  /// Numbers reserved at a time, and how many are left when more are reserved. A quarter of a second, the time between
  /// two looks, uses fewer.
  static let step: UInt64 = 1 << 23
  static let margin: UInt64 = 1 << 22

  private struct Entry {
    var isOutbound: Bool
    /// Outbound: numbers up to here may have been used. Inbound: the highest seen.
    var value: UInt64
  }

  private let path: String
  private var stored: [String: Entry] = [:]
  /// SAs of this run, by digest.
  private var live: [SAIdentifier: String] = [:]

  init(path: String) {
    self.path = path
    load()
  }

  /// Takes over what is known of the SAs that `ipsec.conf` has just given, and reserves for them. Before they carry
  /// anything. `isInbound` by identifier.
  func adopt(_ database: SecurityDatabase) throws {
    var wanted: [SAIdentifier: String] = [:]
    for record in database.records() where record.parameters.owner == .configuration && record.state != .larval {
      let id = record.parameters.identifier
      let digest = Self.digest(record.parameters)
      wanted[id] = digest
      if live[id] == digest { continue }
      let isOutbound = !database.isOwnAddress(record.parameters.destination)
      if let entry = stored[digest], entry.value > record.sequence {
        try database.setSequence(
          id, sequence: isOutbound ? entry.value : 0, replayHighest: isOutbound ? 0 : entry.value)
      }
      let base = max(stored[digest]?.value ?? 0, record.sequence)
      stored[digest] = Entry(isOutbound: isOutbound, value: isOutbound ? base &+ Self.step : base)
    }
    guard wanted != live || !wanted.isEmpty else { return }
    live = wanted
    prune()
    try write()
  }

  /// Reserves more where little is left. Four times a second.
  func reserveIfNeeded(_ database: SecurityDatabase) {
    var changed = false
    for (id, digest) in live {
      guard let record = database.record(id), var entry = stored[digest] else { continue }
      if entry.isOutbound, record.sequence &+ Self.margin > entry.value {
        entry.value = record.sequence &+ Self.step
      } else if !entry.isOutbound, record.sequence > entry.value {
        entry.value = record.sequence
      } else {
        continue
      }
      stored[digest] = entry
      changed = true
    }
    if changed { try? write() }
  }

  /// At an orderly stop nothing more is used: the numbers as they are.
  func save(_ records: [SARecord], final: Bool) {
    guard !live.isEmpty else { return }
    for record in records {
      guard let digest = live[record.parameters.identifier], let entry = stored[digest] else { continue }
      stored[digest] = Entry(isOutbound: entry.isOutbound, value: record.sequence)
    }
    try? write()
  }

  // MARK: The file: `digest out|in number` lines

  /// SAs that are gone are forgotten when there are many.
  private func prune() {
    guard stored.count > 2 * live.count + 1024 else { return }
    let keep = Set(live.values)
    stored = stored.filter { keep.contains($0.key) }
  }

  private func load() {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return }
    for line in text.split(separator: "\n").prefix(2_000_000) {
      let parts = line.split(separator: " ")
      guard parts.count == 3, parts[0].count == 64, let value = UInt64(parts[2]) else { continue }
      stored[String(parts[0])] = Entry(isOutbound: parts[1] == "out", value: value)
    }
  }

  private func write() throws {
    let lines = stored.map { "\($0.key) \($0.value.isOutbound ? "out" : "in") \($0.value.value)\n" }.joined()
    do { try PrivateFile.write(lines, to: path, isSynced: true) } catch {
      throw GatewayError.file(error.path, error.reason)
    }
  }

  private static func digest(_ sa: SAParameters) -> String {
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    EVP_DigestInit_ex(context, EVP_sha256(), nil)
    let identity = Array("\(sa.identifier) from \(sa.source)".utf8)
    EVP_DigestUpdate(context, identity, identity.count)
    for key in [sa.transform.encryptionKey, sa.transform.authenticationKey] {
      EVP_DigestUpdate(context, key.bytes.baseAddress, key.count)
    }
    var sum = [UInt8](repeating: 0, count: 32)
    EVP_DigestFinal_ex(context, &sum, nil)
    return sum.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
