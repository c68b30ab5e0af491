import CLayout
import Engines
import Wire

/// One SA of the database: what was asked for, and the objects that the workers see. Control thread only.
final class SAEntry {
  private var stored: StoredParameters
  var state: SAState
  /// Nil while larval.
  var sa: UnsafeMutablePointer<gw_sa>?
  /// Nil: the SA has no keys, or is to get them when a packet comes.
  var session: CryptoSession?
  /// Not 0: `session` is being given up.
  var leaveToken: UInt32 = 0
  /// Of this object while it is larval, else of `sa`; never used again.
  var serial: UInt32
  var slot: UInt32 = 0
  var isInbound: Bool
  /// Counts up with every SA: the newest has the highest.
  let order: UInt64
  /// In seconds of the gateway's clock; 0: never.
  var added: UInt64
  var firstUsed: UInt64 = 0
  /// When its counters were last seen at zero.
  var lastSeenUnused: UInt64
  /// Links of the timer wheel.
  var timer = TimerLink()
  /// Links of the lists that bind SAs to policies: by peer, and by peer and request ID.
  var byPeer = AgeLink()
  var byRequest = AgeLink()

  init(
    parameters: SAParameters, state: SAState, serial: UInt32, order: UInt64, now: UInt64, isInbound: Bool
  ) {
    stored = StoredParameters(parameters)
    self.state = state
    self.serial = serial
    self.order = order
    self.isInbound = isInbound
    added = now
    lastSeenUnused = now
  }

  /// Made anew each time: to be taken once by whoever asks several things of it.
  var parameters: SAParameters {
    get { stored.parameters }
    set { stored = StoredParameters(newValue) }
  }
  var identifier: SAIdentifier { stored.identifier }
  var saProtocol: SAProtocol { stored.saProtocol }
  var mode: SAMode { stored.mode }
  var source: IPAddress { stored.source }
  var destination: IPAddress { stored.destination }
  var requestID: UInt32 { stored.requestID }
  var keySequence: UInt32 { stored.keySequence }
  var owner: Owner { stored.owner }
  /// All parameters, where some are not as most SAs have them: without it there are no identities, mark, selector,
  /// interface ID and bundle.
  var unusual: SAParameters? { stored.unusual }
  var bundledWith: SAIdentifier? { stored.bundledWith }
  /// What of some packets its own selector lets it carry; nil: nothing.
  func carried(of selector: Selector) -> Selector? {
    guard let own = stored.selector else { return selector }
    return own.intersection(selector)
  }
  /// Of its identities, ours first: an inbound SA's source is the peer.
  var identityHash: UInt64 {
    guard let parameters = stored.unusual else { return 0 }
    let ends = (parameters.sourceIdentity, parameters.destinationIdentity)
    return isInbound ? IdentityHash.hash(ends.1, ends.0) : IdentityHash.hash(ends.0, ends.1)
  }
  /// May carry packets.
  var isUsable: Bool { state == .mature || state == .dying }
  var hasUseLimit: Bool { lifetimes.soft.useTime != 0 || lifetimes.hard.useTime != 0 }
  var lifetimes: (soft: Lifetime, hard: Lifetime) { stored.lifetimes }

  static func of(_ sa: UnsafeMutablePointer<gw_sa>) -> SAEntry {
    let handle = UnsafeRawPointer(bitPattern: UInt(sa.pointee.control)).unsafelyUnwrapped
    return Unmanaged<SAEntry>.fromOpaque(handle).takeUnretainedValue()
  }
}

/// Neighbours in a list of SAs from the newest to the oldest.
struct AgeLink {
  var newer: Unmanaged<SAEntry>?
  var older: Unmanaged<SAEntry>?
}

/// Place in the timer wheel.
struct TimerLink {
  var previous: Unmanaged<SAEntry>?
  var next: Unmanaged<SAEntry>?
  /// 0: in none.
  var deadline: UInt64 = 0
  var wheelSlot: Int32 = -1
}

/// One number for the identities that a flow or SA is bound to, so that workers compare words.
enum IdentityHash {
  /// 0: none asked for.
  static func hash(_ local: Identity?, _ remote: Identity?) -> UInt64 {
    guard local != nil || remote != nil else { return 0 }
    var hasher = Hasher()
    hasher.combine(local)
    hasher.combine(remote)
    return UInt64(bitPattern: Int64(hasher.finalize())) | 1
  }
}
