import Foundation
import Logging

/// The daemon's log, on standard error: for journald with its `<N>` priorities, for people with the time.
public struct DaemonLog: LogHandler {
  public var metadata: Logger.Metadata = [:]
  public var logLevel: Logger.Level
  private let label: String
  private static let isJournal = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil

  public init(label: String, level: Logger.Level) {
    self.label = label
    logLevel = level
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    let prefix = Self.isJournal ? "<\(Self.priority(event.level))>" : "\(Self.time()) \(event.level): "
    let lines = "\(event.message)".split(separator: "\n").map { prefix + Self.plain($0) + "\n" }.joined()
    FileHandle.standardError.write(Data(lines.utf8))
  }

  /// Words of peers and clients are in it: none of them moves a cursor.
  private static func plain(_ line: Substring) -> String {
    guard line.unicodeScalars.contains(where: isControl) else { return String(line) }
    return String(String.UnicodeScalarView(line.unicodeScalars.map { isControl($0) ? "?" : $0 }))
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 && scalar != "\t" || 0x7f...0x9f ~= scalar.value
  }

  /// Syslog's.
  private static func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  private static func time() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    localtime_r(&now.tv_sec, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let milliseconds = now.tv_nsec / 1_000_000
    let padded = String(1000 + milliseconds).dropFirst()
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(padded)"
  }
}
