import Glibc

/// A connection to charon's VICI socket. Every call blocks its thread, for `timeoutSeconds` at most. One thread's.
public final class VICIConnection {
  /// Debian's charon.
  public static let defaultPath = "/run/charon.vici"

  public struct Event: Sendable {
    public var name: String
    public var message: VICISection
  }

  public let path: String
  public var timeoutSeconds: Double
  private let stream: LocalStream
  /// Events that came while an answer was waited for; the oldest go where nobody fetches them.
  private var pending: [Event] = []
  private static let pendingLimit = 4096

  public init(path: String = VICIConnection.defaultPath, timeoutSeconds: Double = 10) throws(VICIError) {
    self.path = path
    self.timeoutSeconds = timeoutSeconds
    do {
      stream = try LocalStream(path: path, deadline: .now + .seconds(timeoutSeconds))
    } catch {
      throw Self.failure(error, path, "connect", timeoutSeconds)
    }
  }

  /// For poll(2): readable when an event waits, or when the daemon has gone. Ask `nextEvent` for what is queued already.
  public var descriptor: Int32 { stream.descriptor }
  /// The daemon's process, as the kernel knows it.
  public var daemonProcess: pid_t? { stream.peerProcess }

  private static func failure(
    _ failure: LocalStream.Failure, _ path: String, _ command: String, _ seconds: Double
  ) -> VICIError {
    switch failure {
    case .notRunning: .notRunning(path: path)
    case .permission: .permission(path: path)
    case .timedOut: .timedOut(command: command, seconds: seconds)
    case .closed: .closed
    case .system(let reason): .system(reason)
    }
  }

  // MARK: Requests

  /// A command and its answer; `success = no` is thrown as the daemon's refusal.
  @discardableResult
  public func request(
    _ command: String, _ message: VICISection = VICISection(), timeoutSeconds: Double? = nil
  ) throws(VICIError) -> VICISection {
    let seconds = timeoutSeconds ?? self.timeoutSeconds
    return try exchange(command, message, seconds) { event in pending(event) }
  }

  /// A command that answers in events, one after the other, as the `list-…` do. `each` may be called with none.
  public func stream(
    _ command: String, _ message: VICISection = VICISection(), event: String, timeoutSeconds: Double? = nil,
    each: (VICISection) -> Void
  ) throws(VICIError) {
    let seconds = timeoutSeconds ?? self.timeoutSeconds
    try register(event)
    _ = try exchange(command, message, seconds) { received in
      if received.name == event { each(received.message) } else { pending(received) }
    }
    try setRegistration(.unregister(event: event), event)
  }

  public func register(_ event: String) throws(VICIError) {
    try setRegistration(.register(event: event), event)
  }

  private func setRegistration(_ packet: VICIPacket, _ event: String) throws(VICIError) {
    let deadline = ContinuousClock.now + .seconds(timeoutSeconds)
    try send(packet, "registration", deadline)
    while true {
      switch try receive("registration", deadline, timeoutSeconds) {
      case .eventConfirm: return
      case .eventUnknown: throw .unknown("the event \(event)")
      case .event(let name, let message): pending(Event(name: name, message: message))
      default: throw .malformed("an answer that was not asked for")
      }
    }
  }

  private func exchange(
    _ command: String, _ message: VICISection, _ seconds: Double, onEvent: (Event) -> Void
  ) throws(VICIError) -> VICISection {
    let deadline = ContinuousClock.now + .seconds(seconds)
    try send(.request(command: command, message), command, deadline)
    while true {
      switch try receive(command, deadline, seconds) {
      case .response(let answer):
        guard answer.text("success") ?? "yes" == "yes" else {
          throw .refused(command: command, reason: answer.text("errmsg") ?? "charon refused and does not say why")
        }
        return answer
      case .commandUnknown: throw .unknown("the command \(command)")
      case .event(let name, let message): onEvent(Event(name: name, message: message))
      default: throw .malformed("an answer that was not asked for")
      }
    }
  }

  // MARK: Events

  /// The next event of those registered; nil: none until the deadline.
  public func nextEvent(until deadline: ContinuousClock.Instant) throws(VICIError) -> Event? {
    if !pending.isEmpty { return pending.removeFirst() }
    do throws(LocalStream.Failure) {
      guard try stream.wait(for: POLLIN, until: deadline) else { return nil }
    } catch {
      throw Self.failure(error, path, "event", timeoutSeconds)
    }
    let rest = ContinuousClock.now + .seconds(timeoutSeconds)
    switch try receive("event", rest, timeoutSeconds) {
    case .event(let name, let message): return Event(name: name, message: message)
    default: throw .malformed("an answer that was not asked for")
    }
  }

  private func pending(_ event: Event) {
    if pending.count >= Self.pendingLimit { pending.removeFirst() }
    pending.append(event)
  }

  // MARK: Packets

  private func send(
    _ packet: VICIPacket, _ command: String, _ deadline: ContinuousClock.Instant
  ) throws(VICIError) {
    var framed = try packet.framed()
    defer { framed.wipe() }
    do {
      try stream.write(framed.bytes, until: deadline)
    } catch {
      throw Self.failure(error, path, command, timeoutSeconds)
    }
  }

  private func receive(
    _ command: String, _ deadline: ContinuousClock.Instant, _ seconds: Double
  ) throws(VICIError) -> VICIPacket {
    let body: [UInt8]
    do throws(LocalStream.Failure) {
      let header = try stream.read(4, until: deadline)
      let length = header.reduce(0) { $0 << 8 | Int($1) }
      guard length >= 1, length <= VICILimits.packet else { throw .system("a VICI packet of \(length) bytes") }
      body = try stream.read(length, until: deadline)
    } catch {
      throw Self.failure(error, path, command, seconds)
    }
    return try VICIPacket(body)
  }
}
