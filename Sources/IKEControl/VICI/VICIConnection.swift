import Glibc
import Threads

/// A connection to charon's VICI socket. Every call blocks its thread, for `timeoutSeconds` at most, and all calls not beyond
/// `turnEnds`; what the other end may send meanwhile is bounded too. One thread's.
public final class VICIConnection {
  /// Debian's charon.
  public static let defaultPath = "/run/charon.vici"

  public struct Event: Sendable {
    public var name: String
    public var message: VICISection
  }

  public let path: String
  public var timeoutSeconds: Double
  /// For what takes many exchanges, each of which may be slow.
  var turnEnds: ContinuousClock.Instant?
  private let stream: LocalStream
  /// Events that came while an answer was waited for; the oldest go where nobody fetches them.
  private var pending: [(event: Event, bytes: Int)] = []
  private var pendingBytes = 0
  /// Of the packets of the exchange under way, and of the last.
  private var exchanged = 0
  private var lastBytes = 0
  private static let pendingLimit = 4096
  private static let pendingByteLimit = 8 << 20
  /// `list-sas` of 100,000 SAs has some 150 MB.
  private static let exchangeLimit = 512 << 20
  /// For the rest of an event whose beginning is there.
  private static let eventSeconds = 2.0

  /// - Parameter interrupt: once raised, every call ends as if charon had closed the connection.
  public init(
    path: String = VICIConnection.defaultPath, timeoutSeconds: Double = 10, interrupt: Interrupt? = nil
  ) throws(VICIError) {
    self.path = path
    self.timeoutSeconds = timeoutSeconds
    do {
      stream = try LocalStream(path: path, deadline: .now + .seconds(timeoutSeconds), interrupt: interrupt)
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
    case .stranger(let user): .stranger(path: path, user: user)
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
    return try exchange(command, message, seconds) { event in keep(event) }
  }

  /// A command that answers in events, one after the other, as the `list-…` do. `each` may be called with none.
  public func stream(
    _ command: String, _ message: VICISection = VICISection(), event: String, timeoutSeconds: Double? = nil,
    each: (VICISection) -> Void
  ) throws(VICIError) {
    let seconds = timeoutSeconds ?? self.timeoutSeconds
    try register(event)
    _ = try exchange(command, message, seconds) { received in
      if received.name == event { each(received.message) } else { keep(received) }
    }
    try setRegistration(.unregister(event: event), event)
  }

  public func register(_ event: String) throws(VICIError) {
    try setRegistration(.register(event: event), event)
  }

  private func setRegistration(_ packet: VICIPacket, _ event: String) throws(VICIError) {
    let deadline = begin(timeoutSeconds)
    try send(packet, "registration", deadline)
    while true {
      switch try receive("registration", deadline, timeoutSeconds) {
      case .eventConfirm: return
      case .eventUnknown: throw .unknown("the event \(event)")
      case .event(let name, let message): keep(Event(name: name, message: message))
      default: throw .malformed("an answer that was not asked for")
      }
    }
  }

  private func exchange(
    _ command: String, _ message: VICISection, _ seconds: Double, onEvent: (Event) -> Void
  ) throws(VICIError) -> VICISection {
    let deadline = begin(seconds)
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

  /// One was received already, so that the descriptor does not tell of it.
  var hasEvent: Bool { !pending.isEmpty }

  /// The next event of those registered; nil: none until the deadline.
  public func nextEvent(until deadline: ContinuousClock.Instant) throws(VICIError) -> Event? {
    if !pending.isEmpty { return takeFirst() }
    do throws(LocalStream.Failure) {
      guard try stream.wait(for: POLLIN, until: deadline) else { return nil }
    } catch {
      throw Self.failure(error, path, "event", timeoutSeconds)
    }
    switch try receive("event", begin(Self.eventSeconds), Self.eventSeconds) {
    case .event(let name, let message): return Event(name: name, message: message)
    default: throw .malformed("an answer that was not asked for")
    }
  }

  /// The event of the packet just received, until it is asked for.
  private func keep(_ event: Event) {
    pending.append((event, lastBytes))
    pendingBytes += lastBytes
    while pending.count > Self.pendingLimit || pendingBytes > Self.pendingByteLimit { _ = takeFirst() }
  }

  private func takeFirst() -> Event {
    let first = pending.removeFirst()
    pendingBytes -= first.bytes
    return first.event
  }

  // MARK: Packets

  /// The deadline of an exchange.
  private func begin(_ seconds: Double) -> ContinuousClock.Instant {
    exchanged = 0
    let deadline = ContinuousClock.now + .seconds(seconds)
    return turnEnds.map { min($0, deadline) } ?? deadline
  }

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
      exchanged += length
      guard exchanged <= Self.exchangeLimit else { throw .system("charon's answer to \(command) has no end") }
      lastBytes = length
      body = try stream.read(length, until: deadline)
    } catch {
      throw Self.failure(error, path, command, seconds)
    }
    return try VICIPacket(body)
  }
}
