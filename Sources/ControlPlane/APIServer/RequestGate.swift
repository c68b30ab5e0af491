import ControlAPI
import Synchronization

/// Counts the requests whose answers are not written yet, and lets none in once the server stops. Any thread.
final class RequestGate: Sendable {
  /// A request under way, until the last reference goes.
  final class Pass: Sendable {
    private let gate: RequestGate
    fileprivate init(_ gate: RequestGate) { self.gate = gate }
    deinit { gate.state.withLock { $0.running -= 1 } }
  }

  private struct State {
    var running = 0
    var isClosed = false
  }
  private let state = Mutex(State())

  /// Nil once closed.
  func enter() -> Pass? {
    let isOpen = state.withLock { state in
      if !state.isClosed { state.running += 1 }
      return !state.isClosed
    }
    return isOpen ? Pass(self) : nil
  }

  func close() { state.withLock { $0.isClosed = true } }

  var isIdle: Bool { state.withLock { $0.running == 0 } }
}
