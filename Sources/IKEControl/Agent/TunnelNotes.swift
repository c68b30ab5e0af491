import Foundation

/// What the agent knows of the tunnels of `ike` rules beyond what charon says when it is asked: since when they are up,
/// why they are not, and when they are asked for again.
public struct TunnelNotes: Sendable {
  public struct Name: Hashable, Sendable {
    public var rule: String
    public var peer: String

    public init(rule: String, peer: String) {
      self.rule = rule
      self.peer = peer
    }
  }

  /// What is said of others is passed over.
  var rules: Set<Name> = [] {
    didSet { peers = Set(rules.map(\.peer)) }
  }
  private var peers: Set<String> = []
  /// Connections that are none of the gateway's rules and have had SAs.
  private var others: Set<String> = []
  /// By connection, how its peer proves itself; empty: not known.
  private(set) var authentications: [String: String] = [:]
  /// What the control thread has not been told yet.
  var news = TunnelNews()
  /// Rekeyed SAs are the same tunnel.
  private(set) var upSince: [Name: Date] = [:]
  /// By peer: what charon said last of what went wrong.
  private(set) var complaints: [String: String] = [:]
  private var complainedAt: [String: Date] = [:]
  var due: [Name: ContinuousClock.Instant] = [:]

  private static let longestComplaint = 200
  private static let mostOthers = 20_000
  /// Words of charon's that tell of something that went wrong.
  private static let bad = [
    "error", "failed", "giving up", "retransmit", "no matching", "no acceptable", "unacceptable", "mismatch", "unable",
    "no shared key", "no private key", "no trusted", "no issuer", "denied", "no_proposal_chosen", "no child_sa built",
  ]
  /// What follows such words and says less.
  private static let sequels = ["failed to establish child_sa", "keeping ike_sa", "destroying ike_sa"]
  private static let sequelSeconds: Double = 5

  mutating func take(_ event: VICIConnection.Event, now: Date = Date()) {
    switch event.name {
    case "log":
      guard let peer = event.message.text("ikesa-name"), let text = event.message.text("msg"),
        peers.contains(peer) || others.contains(peer)
      else { return }
      let lowercased = text.lowercased()
      guard Self.bad.contains(where: lowercased.contains) else { return }
      if Self.sequels.contains(where: lowercased.contains), let before = complainedAt[peer],
        now.timeIntervalSince(before) < Self.sequelSeconds
      {
        return
      }
      complainedAt[peer] = now
      let complaint = String(text.prefix(Self.longestComplaint))
      news.complaints[peer] = complaint
      if peers.contains(peer) { complaints[peer] = complaint }
    case "child-updown":
      let isUp = event.message.text("up") == "yes"
      for (peer, sa) in event.message.sections {
        if isUp { noteChildren(of: peer, sa) }
        for (key, child) in sa.section("child-sas")?.sections ?? [] {
          let name = Name(rule: child.text("name") ?? key, peer: peer)
          guard rules.contains(name) else { continue }
          upSince[name] = isUp ? upSince[name] ?? now : nil
        }
        if isUp {
          complaints[peer] = nil
          complainedAt[peer] = nil
        }
      }
    default: break
    }
  }

  /// Of `list-conn`.
  mutating func noteConnection(_ name: String, _ section: VICISection) {
    guard authentications.count < Self.mostOthers || authentications[name] != nil else { return }
    let remote = section.sections.first { $0.name.hasPrefix("remote-") }?.section.text("class") ?? ""
    authentications[name] = remote.contains("shared") ? "passphrase" : remote.contains("public") ? "rsa" : nil
  }

  /// Of a connection that has SAs.
  mutating func noteChildren(of connection: String, _ sa: VICISection) {
    if !peers.contains(connection), others.count < Self.mostOthers { others.insert(connection) }
    for var child in DaemonChild.all(connection, sa) {
      child.remoteAuthentication = authentications[connection]
      news.children[child.requestID] = child
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
