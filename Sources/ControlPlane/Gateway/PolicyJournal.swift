import ControlAPI
import Foundation
import IKEControl
import IPsec

/// The key daemons' policies, on disk: a gateway that was killed, or started before its daemon, holds back what they
/// protect until the daemon has made SAs, and forwards none of it in clear. Policies that let packets pass are not kept, and
/// no keys: those of IKE end with the process. One policy's JSON a line. Control thread.
final class PolicyJournal {
  /// Policies put into words at a time, so that thousands that come at once hold nobody up.
  private static let atATime = 512

  private let path: String
  private var lines: [UInt32: String] = [:]
  /// Told of, not yet in `lines`.
  private var news: [UInt32] = []
  private var isChanged = false
  private var notBefore = ContinuousClock.now

  init(path: String) { self.path = path }

  /// What stood there when the last process ended, as of daemons that are gone.
  func read() -> [PolicyParameters] {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return [] }
    return text.split(separator: "\n").compactMap { line in
      var policy = try? APICoding.decode(PolicyParameters.self, from: Data(line.utf8))
      switch policy?.owner {
      case .xfrm: policy?.owner = .xfrm(0)
      case .pfkey: policy?.owner = .pfkey(0)
      case .configuration, nil: return nil
      }
      return policy
    }
  }

  func note(_ event: DatabaseEvent) {
    switch event {
    case .policyAdded(let record), .policyUpdated(let record):
      if Self.isKept(record.parameters) { news.append(record.index) } else { forget(record.index) }
    case .policyDeleted(let record): forget(record.index)
    case .policiesFlushed:
      isChanged = isChanged || !lines.isEmpty
      news = []
      lines = [:]
    default: break
    }
  }

  private static func isKept(_ policy: PolicyParameters) -> Bool {
    policy.owner != .configuration && policy.type != .bypass
  }

  private func forget(_ index: UInt32) {
    if lines.removeValue(forKey: index) != nil { isChanged = true }
  }

  /// Brings the file up to date, by parts where there is much to say, unless `isWhole`. Four times a second.
  func write(_ database: SecurityDatabase, isWhole: Bool = false) throws(PrivateFile.Failure) {
    let count = isWhole ? news.count : min(news.count, Self.atATime)
    for index in news.suffix(count) {
      guard let policy = database.policy(index: index)?.parameters, Self.isKept(policy) else { continue }
      lines[index] = (try? APICoding.encode(policy)).map { String(decoding: $0, as: UTF8.self) }
      isChanged = true
    }
    news.removeLast(count)
    guard isChanged, isWhole || notBefore <= .now else { return }
    isChanged = false
    let begin = ContinuousClock.now
    defer { notBefore = .now + (.now - begin) * 20 }
    try PrivateFile.write(lines.values.map { $0 + "\n" }.joined(), to: path)
  }
}
