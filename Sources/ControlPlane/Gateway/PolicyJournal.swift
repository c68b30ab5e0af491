import ControlAPI
import Foundation
import IKEControl
import IPsec

/// The key daemons' policies, on disk: a gateway that was killed, or started before its daemon, holds back what they
/// protect until the daemon has made SAs, and forwards none of it in clear. Policies that let packets pass are not kept, and
/// no keys: those of IKE end with the process. Control thread.
///
/// Lines: `+INDEX POLICY` for a policy in JSON that came or changed, `-INDEX` for one that went; version 0.1.0 wrote the
/// policies alone. A policy is there before its daemon is told that it stands; where many come at once they are synced
/// together.
final class PolicyJournal {
  /// Of the time at most this share goes into waiting for the disk, but for a quarter of a second at a time.
  private static let syncShare = 5
  /// Bytes by which the file may be longer than what it says.
  private static let slack = 1 << 20

  private let file: AppendFile
  private var lines: [UInt32: String] = [:]
  private var lineBytes = 0
  /// What the last process left stands in the database, and may go from the file.
  private var hasBegun = false
  /// The file does not say what `lines` do.
  private var isBehind = true
  private var syncsFrom = ContinuousClock.now
  /// Why the file is not up to date; nil: it is.
  private(set) var failure: String?

  init(path: String, calls: PrivateFile.Calls = PrivateFile.Calls()) { file = AppendFile(path: path, calls: calls) }

  /// What stood there when the last process ended, as of daemons that are gone. The file stays as it is until `begin`.
  func read() throws(PrivateFile.Failure) -> [PolicyParameters] {
    let bytes = try AppendFile.contents(of: file.path) ?? []
    var standing: [UInt32: Substring] = [:]
    var unnumbered = UInt32.max
    // A line without an end was cut short by a crash.
    let text = String(decoding: bytes[..<(bytes.lastIndex(of: UInt8(ascii: "\n")) ?? 0)], as: UTF8.self)
    for line in text.split(separator: "\n") {
      if line.first == "{" {
        standing[unnumbered] = line
        unnumbered -= 1
        continue
      }
      let parts = line.dropFirst().split(separator: " ", maxSplits: 1)
      guard let number = parts.first, let index = UInt32(number) else { continue }
      standing[index] = line.first == "+" && parts.count == 2 ? parts[1] : nil
    }
    return standing.sorted { $0.key < $1.key }.compactMap { Self.policy($0.value) }
  }

  private static func policy(_ text: Substring) -> PolicyParameters? {
    var policy = try? APICoding.decode(PolicyParameters.self, from: Data(text.utf8))
    switch policy?.owner {
    case .xfrm: policy?.owner = .xfrm(0)
    case .pfkey: policy?.owner = .pfkey(0)
    case .configuration, nil: return nil
    }
    return policy
  }

  /// From here on the file follows the database, whose policies it has been told of.
  func begin() {
    hasBegun = true
    write()
  }

  /// Before whoever asked for it is answered.
  func note(_ event: DatabaseEvent) {
    switch event {
    case .policyAdded(let record), .policyUpdated(let record):
      let policy = record.parameters
      let isKept = policy.owner != .configuration && policy.type != .bypass
      let text = isKept ? try? APICoding.encode(policy) : nil
      set(record.index, text.map { String(decoding: $0, as: UTF8.self) })
    case .policyDeleted(let record): set(record.index, nil)
    case .policiesFlushed:
      (lines, lineBytes) = ([:], 0)
      isBehind = true
      write()
    default: break
    }
  }

  private func set(_ index: UInt32, _ text: String?) {
    let old = lines[index]
    guard old != text else { return }
    lines[index] = text
    lineBytes += (text?.utf8.count ?? 0) - (old?.utf8.count ?? 0)
    guard hasBegun, !isBehind else { return }
    let begin = ContinuousClock.now
    // What goes may come back: it is held back then, and does not pass in clear.
    let syncs = text != nil && begin >= syncsFrom
    attempt { () throws(PrivateFile.Failure) in
      try file.append((text.map { "+\(index) \($0)\n" } ?? "-\(index)\n").utf8, syncing: syncs)
    }
    if syncs { syncsFrom = .now + (.now - begin) * (Self.syncShare - 1) }
  }

  /// Brings the file up to date. Four times a second.
  func write() {
    guard hasBegun else { return }
    if isBehind || !file.isOpen || file.size > 2 * lineBytes + Self.slack {
      let text = lines.map { "+\($0.key) \($0.value)\n" }.joined()
      attempt { () throws(PrivateFile.Failure) in try file.replace(text.utf8) }
    } else {
      attempt { () throws(PrivateFile.Failure) in try file.sync() }
    }
  }

  private func attempt(_ body: () throws(PrivateFile.Failure) -> Void) {
    do throws(PrivateFile.Failure) {
      try body()
      isBehind = false
      failure = nil
    } catch {
      isBehind = true
      failure = "\(error)"
    }
  }
}
