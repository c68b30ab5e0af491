/// Whether a datagram answers this client or tells everybody something. Answers are never dropped.
public enum KeyDatagramKind: Sendable { case reply, notice }

/// Where a session puts what it has to say. Called on the control thread, in order.
public typealias KeyOutput = (_ datagram: [UInt8], _ kind: KeyDatagramKind) -> Void

/// One client of a key socket: a state machine without I/O. Control thread only.
public protocol KeySession: AnyObject {
  /// A datagram from the client. Every request is answered before this returns, except that a dump only begins: the rest
  /// of it comes by `resume`. The bytes are not kept.
  func receive(_ datagram: UnsafeRawBufferPointer)
  /// Sends the next datagram of a dump. False: nothing is under way.
  func resume() -> Bool
  /// The client is gone; nothing is sent any more.
  func close()
  /// It asked for events: a daemon, not a one-shot tool.
  var isListener: Bool { get }
  /// Requests that it was answered an error for.
  var refusals: UInt64 { get }
  /// What tells the client that notices were dropped because it did not read them; nil: its protocol has no word for it.
  var overrunNotice: [UInt8]? { get }
}

/// How far the flush messages reach.
public enum FlushScope: Sendable {
  /// Whatever stands in the database.
  case everything
  /// What came in by sockets of the same kind; what `ipsec.conf` and the other kind of daemon installed stays.
  case sameKind
}

/// Choices of `gateway.yaml` that both key protocols go by.
public struct KeyPolicy: Sendable {
  /// Take HMAC-MD5 (and what else is called weak) instead of answering ENOSYS.
  public var allowsWeakAlgorithms = false
  /// ALLOCSPI and GETSPI may give out SPIs of 1 to 255.
  public var allowsLowSPIs = false
  /// `ip xfrm state flush` means all of them, as on Linux.
  public var xfrmFlush = FlushScope.everything
  /// iked flushes when it starts, which must not take a second daemon's SAs with it.
  public var pfkeyFlush = FlushScope.sameKind

  public init() {}
}
