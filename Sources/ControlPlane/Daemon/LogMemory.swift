import ControlAPI
import Synchronization

/// The last lines of the log, for `gwctl log`. Any thread.
final class LogMemory: Sendable {
  static let shared = LogMemory()
  /// Lines that are kept, and bytes of each text in them.
  private static let capacity = 4096
  private static let longestLine = 1024

  private struct State {
    var lines: [LogLine] = []
    /// Of the oldest, once all places are taken.
    var first = 0
  }
  private let state = Mutex(State())

  private static func cut(_ text: String) -> String { String(decoding: text.utf8.prefix(longestLine), as: UTF8.self) }

  func append(_ line: LogLine) {
    var line = line
    line.text = Self.cut(line.text)
    line.fields = line.fields.mapValues(Self.cut)
    state.withLock { state in
      if state.lines.count < Self.capacity {
        state.lines.append(line)
      } else {
        state.lines[state.first] = line
        state.first = (state.first + 1) % Self.capacity
      }
    }
  }

  /// The oldest first.
  func lines(since: Double) -> [LogLine] {
    let all = state.withLock { Array($0.lines[$0.first...] + $0.lines[..<$0.first]) }
    return all.filter { $0.atSeconds >= since }
  }
}
