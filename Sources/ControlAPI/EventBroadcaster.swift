import Foundation
import IPsec
import Synchronization

/// From the control thread, which never waits, to any number of readers, each with a bounded queue. A reader that falls
/// behind loses the oldest events and is told how many. Any thread may call any of it.
public final class EventBroadcaster: Sendable {
  /// Set where a reader goes. That may be within the lock of its task's status, which `publish` takes to wake the task: a
  /// lock here would be taken in the other order.
  private final class Departure: Sendable {
    let isOver = Atomic(false)
  }
  private struct Reader {
    var continuation: AsyncStream<GatewayEvent>.Continuation
    let departure: Departure
    var lost: UInt64 = 0
    var isGone: Bool { departure.isOver.load(ordering: .relaxed) }

    mutating func send(_ event: GatewayEvent) {
      if lost > 0 {
        var note = event
        note.body = .lost(lost)
        guard case .enqueued = continuation.yield(note) else {
          lost += 1
          return
        }
        lost = 0
      }
      if case .dropped = continuation.yield(event) { lost += 1 }
    }
  }
  private struct State {
    var sequence: UInt64 = 0
    var nextReader = 0
    var readers: [Int: Reader] = [:]
    var isFinished = false

    mutating func forgetGone() {
      for (id, reader) in readers where reader.isGone { readers[id] = nil }
    }
  }
  private let state = Mutex(State())
  private let depth: Int

  /// - Parameter depth: events that wait for one reader.
  public init(depth: Int = 4096) { self.depth = depth }

  /// - Parameter process: asked for only if somebody reads.
  public func publish(
    _ event: DatabaseEvent, origin: UInt64 = 0, process: @autoclosure () -> Int32? = nil
  ) {
    publish(.database(DatabaseChange(event)), origin: origin, process: process())
  }

  public func publish(
    _ body: GatewayEvent.Body, origin: UInt64 = 0, process: @autoclosure () -> Int32? = nil
  ) {
    let now = Date().timeIntervalSince1970
    state.withLock { state in
      state.sequence += 1
      state.forgetGone()
      guard !state.readers.isEmpty else { return }
      let event = GatewayEvent(
        sequence: state.sequence, atSeconds: now, origin: origin, process: process(), body: body)
      for reader in state.readers.keys { state.readers[reader]!.send(event) }
    }
  }

  /// A stream of what is published from now on; ends with `finish`.
  public func subscribe() -> AsyncStream<GatewayEvent> {
    // One place more than `depth`, for the note of what was lost.
    let (stream, continuation) = AsyncStream.makeStream(
      of: GatewayEvent.self, bufferingPolicy: .bufferingOldest(depth + 1))
    state.withLock { state in
      guard !state.isFinished else { return continuation.finish() }
      let id = state.nextReader
      state.nextReader += 1
      let departure = Departure()
      state.forgetGone()
      state.readers[id] = Reader(continuation: continuation, departure: departure)
      continuation.onTermination = { _ in departure.isOver.store(true, ordering: .relaxed) }
    }
    return stream
  }

  public var readerCount: Int {
    state.withLock { state in
      state.forgetGone()
      return state.readers.count
    }
  }

  /// Ends every stream: the gateway stops.
  public func finish() {
    let readers = state.withLock { state in
      state.isFinished = true
      defer { state.readers = [:] }
      return state.readers.values.map(\.continuation)
    }
    for reader in readers { reader.finish() }
  }
}
