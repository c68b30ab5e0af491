import ControlAPI
import Foundation
import Logging

/// The daemon's log, on standard error: for journald with its `<N>` priorities, for people with date and time. Lines that
/// are about a tunnel, SA or peer go to journald with fields that say so.
public struct DaemonLog: LogHandler {
  public var metadata: Logger.Metadata = [:]
  public var logLevel: Logger.Level
  private let label: String
  private static let isJournal = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil
  private static let journal = isJournal ? JournalSocket() : nil

  public init(label: String, level: Logger.Level) {
    self.label = label
    logLevel = level
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.mapValues { Self.plain("\($0)"[...]) }
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let lines = "\(event.message)".split(separator: "\n").map(Self.plain)
    for line in lines {
      LogMemory.shared.append(
        LogLine(
          atSeconds: Double(now.tv_sec) + Double(now.tv_nsec) / 1e9, level: "\(event.level)", text: line, fields: fields
        ))
    }
    if !fields.isEmpty, let journal = Self.journal {
      let named = fields.sorted { $0.key < $1.key }.map { (name: "GW_" + $0.key.uppercased(), value: $0.value) }
      let usual = [
        (name: "MESSAGE", value: lines.joined(separator: "\n")),
        (name: "PRIORITY", value: "\(Self.priority(event.level))"),
        (name: "SYSLOG_IDENTIFIER", value: "gwd"),
      ]
      if journal.send(usual + named) { return }
    }
    let prefix = Self.isJournal ? "<\(Self.priority(event.level))>" : "\(Self.time(now)) \(event.level): "
    FileHandle.standardError.write(Data(lines.map { prefix + $0 + "\n" }.joined().utf8))
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

  private static func time(_ now: timespec) -> String {
    var (parts, seconds) = (tm(), now.tv_sec)
    localtime_r(&seconds, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let milliseconds = now.tv_nsec / 1_000_000
    let padded = String(1000 + milliseconds).dropFirst()
    let date = "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    return "\(date) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(padded)"
  }
}
