import CDPDK
import Synchronization

/// What EAL and the drivers log: kept, newest last, and handed to a handler. Any thread.
public final class EALLog: Sendable {
  public enum Level: UInt32, Sendable, Comparable {
    case emergency = 1
    case alert, critical, error, warning, notice, info, debug

    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  }

  public struct Line: Sendable, Equatable {
    public var level: Level
    public var text: String
  }

  /// Lines that are kept.
  public static let capacity = 256
  static let maximumLineLength = 512

  public static let shared = EALLog()

  private struct State: Sendable {
    var lines: [Line] = []
    /// Lines that were ever appended.
    var total = 0
    var handler: (@Sendable (Line) -> Void)?
  }

  private let state = Mutex(State())

  /// Replaces stderr as the log's destination.
  func capture() -> Bool { cdpdk_log_capture(receiveLog) == 0 }

  /// Called with each line on the thread that logs it, never on a worker's fast path.
  public func setHandler(_ handler: (@Sendable (Line) -> Void)?) { state.withLock { $0.handler = handler } }

  public var lines: [Line] { state.withLock { $0.lines } }

  func append(_ level: Level, _ text: Substring) {
    let line = Line(level: level, text: String(text.prefix(Self.maximumLineLength)))
    let handler = state.withLock { state in
      if state.lines.count == Self.capacity { state.lines.removeFirst() }
      state.lines.append(line)
      state.total += 1
      return state.handler
    }
    handler?(line)
  }

  /// The last line that says what went wrong, without its prefix; nil: none was logged.
  public func lastProblem() -> String? {
    let problems = lines.filter { $0.level <= .error }
    // "FATAL: Cannot init memory" comes last but says less than what came before it.
    return (problems.last { !$0.text.contains("FATAL") } ?? problems.last)?.text
  }

  /// Runs `body`; also what was logged at `.error` or worse meanwhile.
  public func collecting<R>(_ body: () -> R) -> (result: R, problems: [String]) {
    let before = state.withLock { $0.total }
    let result = body()
    let new = state.withLock { $0.lines.suffix($0.total - before) }
    return (result, new.filter { $0.level <= .error }.map(\.text))
  }
}

// Called from C: a plain function.
private func receiveLog(_ level: UInt32, _ text: UnsafePointer<CChar>?, _ length: Int) {
  guard let text else { return }
  let bytes = UnsafeRawBufferPointer(start: text, count: length)
  let level = EALLog.Level(rawValue: max(1, min(level, 8))) ?? .info
  for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
    EALLog.shared.append(level, line)
  }
}
