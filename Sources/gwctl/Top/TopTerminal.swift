import Foundation
import Glibc
import Synchronization

/// Set by signals.
private let topIsToEnd = Atomic(false)

/// The whole of a terminal: keys one by one, and pages drawn over each other. As it was before after `restore`.
final class TopTerminal {
  enum Event {
    case time, resized, end
    case key(TopView.Key)
  }

  private var before = termios()
  private var pending: [UInt8] = []
  private var lastSize = TopTerminal.size

  /// Output is a terminal that can move its cursor, and there are keys.
  static var canDraw: Bool {
    let type = ProcessInfo.processInfo.environment["TERM"] ?? "dumb"
    return isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1 && !["", "dumb", "unknown"].contains(type)
  }

  static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  static var isUnicode: Bool {
    let environment = ProcessInfo.processInfo.environment
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
    return locale.uppercased().contains("UTF-8") || locale.uppercased().contains("UTF8")
  }

  static var size: (columns: Int, rows: Int) {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return (80, 24) }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  var tunnelRows: Int { max(1, Self.size.rows - TopScreen.headerRows) }

  init() {
    fflush(nil)
    tcgetattr(STDIN_FILENO, &before)
    var raw = before
    raw.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw)
    for number in [SIGTERM, SIGHUP, SIGINT] {
      Self.onSignal(number) { _ in topIsToEnd.store(true, ordering: .relaxed) }
    }
    // What it interrupts is the wait for keys.
    Self.onSignal(SIGWINCH) { _ in }
    Self.write("\u{1b}[?1049h\u{1b}[?25l\u{1b}[2J")
  }

  private static func onSignal(_ number: Int32, _ handler: @escaping @convention(c) (Int32) -> Void) {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = handler
    sigaction(number, &action, nil)
  }

  func restore() {
    Self.write("\u{1b}[?25h\u{1b}[?1049l")
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
  }

  func show(_ screen: TopScreen) { Self.write(screen.drawing(rows: Self.size.rows)) }

  /// In one piece, so that no half of a page is seen.
  private static func write(_ text: String) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count < 0, errno != EINTR { return topIsToEnd.store(true, ordering: .relaxed) }
      bytes = bytes.dropFirst(max(0, count))
    }
  }

  func wait(until due: ContinuousClock.Instant) -> Event {
    while true {
      if topIsToEnd.load(ordering: .relaxed) { return .end }
      let size = Self.size
      if size != lastSize {
        lastSize = size
        return .resized
      }
      if let key = nextKey() { return .key(key) }
      let left = ContinuousClock.now.duration(to: due)
      let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
      guard milliseconds > 0 else { return .time }
      var entry = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, Int32(clamping: milliseconds)) > 0 else { continue }
      var buffer = [UInt8](repeating: 0, count: 64)
      let count = read(STDIN_FILENO, &buffer, buffer.count)
      // Nobody is there any more.
      if count == 0 || count < 0 && errno != EINTR { return .end }
      pending += buffer.prefix(max(0, count))
    }
  }

  private func nextKey() -> TopView.Key? {
    guard let first = pending.first else { return nil }
    let sequences: [(String, TopView.Key)] = [
      ("\u{1b}[A", .up), ("\u{1b}[B", .down), ("\u{1b}OA", .up), ("\u{1b}OB", .down), ("\u{1b}[5~", .pageUp),
      ("\u{1b}[6~", .pageDown), ("\u{1b}[H", .home), ("\u{1b}[1~", .home),
    ]
    for (text, key) in sequences where pending.starts(with: text.utf8) {
      pending.removeFirst(text.utf8.count)
      return key
    }
    switch first {
    case 0x1b:
      // Another sequence than these: passed over as a whole.
      let isSequence = pending.count > 1
      pending.removeAll()
      return isSequence ? nextKey() : .escape
    case 0x0d, 0x0a:
      pending.removeFirst()
      return .enter
    case 0x7f, 0x08:
      pending.removeFirst()
      return .backspace
    default:
      let length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2
      guard pending.count >= length else {
        pending.removeAll()
        return nil
      }
      let text = String(decoding: pending.prefix(length), as: UTF8.self)
      pending.removeFirst(length)
      return text.first.map { .character($0) }
    }
  }
}
