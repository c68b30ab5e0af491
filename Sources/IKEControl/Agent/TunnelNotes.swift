import Foundation

/// What the agent knows of the tunnels of `ike` rules beyond what charon says when it is asked: since when they are up,
/// why they are not, and when they are asked for again.
struct TunnelNotes: Sendable {
  struct Name: Hashable, Sendable {
    var rule: String
    var peer: String
  }

  /// What is said of others is passed over.
  var rules: Set<Name> = []
  /// Rekeyed SAs are the same tunnel.
  private(set) var upSince: [Name: Date] = [:]
  /// By peer: what charon said last of what went wrong.
  private(set) var complaints: [String: String] = [:]
  var due: [Name: ContinuousClock.Instant] = [:]

  private static let longestComplaint = 200
  /// Words of charon's that tell of something that went wrong.
  private static let bad = [
    "error", "failed", "giving up", "retransmit", "no matching", "no acceptable", "unacceptable", "mismatch", "unable",
    "no shared key", "no private key", "no trusted", "no issuer", "denied",
  ]

  mutating func take(_ event: VICIConnection.Event, now: Date = Date()) {
    switch event.name {
    case "log":
      guard let peer = event.message.text("ikesa-name"), let text = event.message.text("msg"),
        rules.contains(where: { $0.peer == peer })
      else { return }
      let lowercased = text.lowercased()
      if Self.bad.contains(where: lowercased.contains) { complaints[peer] = String(text.prefix(Self.longestComplaint)) }
    case "child-updown":
      let isUp = event.message.text("up") == "yes"
      for (peer, sa) in event.message.sections {
        for (key, child) in sa.section("child-sas")?.sections ?? [] {
          let name = Name(rule: child.text("name") ?? key, peer: peer)
          guard rules.contains(name) else { continue }
          upSince[name] = isUp ? upSince[name] ?? now : nil
        }
        if isUp { complaints[peer] = nil }
      }
    default: break
    }
  }
}

extension IKEConnectionStatus {
  mutating func add(_ notes: TunnelNotes, now: ContinuousClock.Instant = .now) {
    guard state == .loaded else { return }
    let own = TunnelNotes.Name(rule: name, peer: peer)
    upSince = notes.upSince[own]?.timeIntervalSince1970
    reason = notes.complaints[peer]
    guard !held, let due = notes.due[own] else { return }
    nextTrySeconds = UInt64(max(0, (due - now).components.seconds))
  }
}
