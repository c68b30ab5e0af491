import ControlAPI
import Synchronization

/// Counts the requests that run, and lets none in once the server stops. Any thread.
final class RequestGate: Sendable {
  private struct State {
    var running = 0
    var isClosed = false
  }
  private let state = Mutex(State())

  func pass<Value>(_ body: () async throws -> Value) async throws -> Value {
    let isOpen = state.withLock { state in
      if !state.isClosed { state.running += 1 }
      return !state.isClosed
    }
    guard isOpen else { throw ControlError(.unavailable, "the gateway is stopping") }
    defer { state.withLock { $0.running -= 1 } }
    return try await body()
  }

  func close() { state.withLock { $0.isClosed = true } }

  var isIdle: Bool { state.withLock { $0.running == 0 } }
}
