import ControlAPI
import IPsec

/// Whether a tunnel carries packets, since when, why not, and what became of its SAs. Times are seconds since the epoch.
struct TunnelLife {
  private(set) var state = TunnelStatus.State.down
  /// Since when packets pass, or do not: `connecting` is a kind of `down`.
  private(set) var since: Double
  private(set) var reason: String?
  private(set) var comings: UInt64 = 0
  private(set) var rekeys: UInt64 = 0
  private(set) var lastRekey: Double?
  /// Serial of the SA that packets leave through.
  private var carrier: UInt32 = 0
  /// When the key daemon last said what goes wrong.
  private var complainedAt = -Double.infinity
  private var askedAt: Double = 0
  /// What the gateway has against it.
  private var bar: (text: String, isWish: Bool)?

  /// What a daemon says shortly before its SAs go is why they go.
  private static let foreshadowing: Double = 10
  /// charon's default of retransmissions takes 165 seconds.
  private static let patience: Double = 180

  init(now: Double, reason: String?) {
    since = now
    self.reason = reason
  }

  var isUp: Bool { state == .up || state == .static }

  /// Packets leave through an SA.
  mutating func carries(_ next: TunnelCarrier, now: Double) {
    let isStatic = next.owner == .configuration
    if isUp {
      // An older SA comes to honour again when the newer one is deleted: nothing was rekeyed.
      if next.serial > carrier {
        rekeys += 1
        lastRekey = now
      }
    } else {
      since = now
      comings += 1
    }
    carrier = next.serial
    state = isStatic ? .static : .up
    reason = nil
    complainedAt = -.infinity
    if bar?.isWish == false { bar = nil }
  }

  /// No packet leaves protected any more. `cause`: what happened last, unless the daemon said something better.
  mutating func carriesNothing(because cause: String?, now: Double) {
    guard isUp else { return }
    let isExplained = reason != nil && now - complainedAt <= Self.foreshadowing
    state = .down
    since = now
    carrier = 0
    if let bar { reason = bar.text } else if !isExplained { reason = cause }
  }

  /// The key daemon was asked for SAs.
  mutating func isAskedFor(now: Double) {
    guard !isUp else { return }
    state = .connecting
    askedAt = now
  }

  /// A daemon that says nothing is not waited for without end.
  mutating func waits(now: Double) {
    askedAt = min(askedAt, now)
    if now - askedAt > Self.patience { isUnanswered("the key daemon was asked for SAs and made none", now: now) }
  }

  /// The question is answered by nothing.
  mutating func isUnanswered(_ text: String, now: Double) {
    guard state == .connecting else { return }
    state = .down
    if now - complainedAt > Self.foreshadowing { reason = text }
  }

  /// What the key daemon says of what goes wrong. `isFinal`: it has given up.
  mutating func complain(_ text: String, isFinal: Bool, now: Double) {
    complainedAt = now
    reason = text
    if isFinal, state == .connecting { state = .down }
  }

  /// Why it cannot come up, as the gateway knows it. `isWish`: it was brought down for that, too.
  mutating func cannot(_ text: String, isWish: Bool = false) {
    guard !isUp || isWish else { return }
    bar = (text, isWish)
    guard !isUp else { return }
    state = .down
    reason = text
  }

  /// What the gateway had against it is over.
  mutating func may() {
    if bar != nil, !isUp { reason = nil }
    bar = nil
  }
}

extension TunnelLife {
  /// Words of key daemons that mean that a peer is not asked any more.
  private static let finalWords = [
    "giving up", "failed", "no_proposal", "no proposal", "no child_sa", "no acceptable", "mismatch", "denied",
    "unacceptable", "notify error",
    "no shared key", "no private key", "no trusted", "no issuer", "destroying",
  ]

  static func isFinal(_ complaint: String) -> Bool {
    let lowercased = complaint.lowercased()
    return finalWords.contains(where: lowercased.contains)
  }
}
