import ControlAPI

/// A page as lines of text, cut to the terminal's width.
struct TopScreen {
  static let headerRows = 5

  var header: [String]
  var title: String
  var rows: [(text: String, state: TunnelStatus.State)]
  private let columns: Int

  init(_ page: TopPage, _ view: TopView, columns: Int, isUnicode: Bool) {
    self.columns = max(20, columns)
    header = Self.header(page, view)
    let table = TopTable(page.tunnels, columns: self.columns, now: page.atSeconds, isUnicode: isUnicode)
    title = table.title
    rows = table.rows
  }

  private static func header(_ page: TopPage, _ view: TopView) -> [String] {
    let states = TunnelStatus.State.allCases.filter { page.counts[$0] > 0 }.map { "\(page.counts[$0]) \($0.rawValue)" }
    let busy = page.busyShares.enumerated().map { "\($0.offset): \(Quantity.percent($0.element))" }
    func rate(_ rate: TopPage.Rate) -> String {
      "\(Quantity.bits(rate.bitsPerSecond))bit/s \(Quantity.bits(rate.packetsPerSecond))packets/s"
    }
    let first = page.firstDropReason.map { ", most \($0)" } ?? ""
    var last = "sorted by \(view.order.rawValue)"
    if let typed = view.typed {
      last = "filter: \(typed)_"
    } else if let filter = view.filter {
      last += ", filter \(filter)"
    }
    if view.offset > 0 { last += ", from \(view.offset + 1) on" }
    return [
      "gwd \(page.version), up \(Quantity.duration(page.uptimeSeconds)); "
        + "\(Quantity.count(page.counts.all, "tunnel"))\(states.isEmpty ? "" : ": ")\(states.joined(separator: ", "))",
      "in \(rate(page.received)), out \(rate(page.sent)), drops "
        + "\(Quantity.decimal(page.dropsPerSecond, digits: 0))/s\(first)",
      "workers busy \(busy.joined(separator: ", "))", last,
    ]
  }

  /// Without any control code.
  var plainText: String {
    (header + [title] + rows.map(\.text)).map { Self.trimmed(Table.plain($0)) + "\n" }.joined()
  }

  /// For a terminal that starts at its upper left corner: every line overwrites what stood there.
  func drawing(rows count: Int) -> String {
    var lines = header.map(line)
    lines.append("\u{1b}[7m" + padded(title) + "\u{1b}[m")
    for row in rows {
      let color =
        switch row.state {
        case .down: "\u{1b}[31m"
        case .connecting: "\u{1b}[33m"
        case .up, .static: ""
        }
      lines.append(color + line(row.text) + (color.isEmpty ? "" : "\u{1b}[m"))
    }
    let shown = lines.prefix(max(1, count))
    return "\u{1b}[H" + shown.map { $0 + "\u{1b}[K" }.joined(separator: "\n") + "\u{1b}[J"
  }

  private func line(_ text: String) -> String { String(Table.plain(text).prefix(columns)) }

  private func padded(_ text: String) -> String {
    let text = line(text)
    return text + String(repeating: " ", count: max(0, columns - text.count))
  }

  private static func trimmed(_ text: String) -> Substring {
    text.lastIndex { $0 != " " }.map { text[...$0] } ?? ""
  }
}

/// The tunnels' part: narrow terminals do without the columns that are missed least.
struct TopTable {
  private(set) var title = ""
  private(set) var rows: [(text: String, state: TunnelStatus.State)] = []

  private static let sparks = 20

  init(_ tunnels: [TunnelStatus], columns: Int, now: Double, isUnicode: Bool) {
    var parts: [(column: Column<TunnelStatus>, width: Int, least: Int)] = [
      (.left("STATE") { $0.state.rawValue }, 10, 0),
      (.right("FOR") { Quantity.duration(now - $0.since) }, 11, 60),
      (.right("IN/S") { Quantity.bits($0.rates.second.inBitsPerSecond) }, 8, 0),
      (.right("OUT/S") { Quantity.bits($0.rates.second.outBitsPerSecond) }, 8, 0),
      (
        .right("PACKETS/S") {
          Quantity.bits($0.rates.second.inPacketsPerSecond + $0.rates.second.outPacketsPerSecond)
        }, 9, 130
      ),
      (.right("DROPS") { Quantity.grouped($0.drops.values.reduce(0, &+)) }, 8, 80),
      (.left("LAST 20 S") { Spark.text($0.history ?? [], width: Self.sparks, isUnicode: isUnicode) }, Self.sparks, 100),
      (.left("WHY") { $0.reason ?? "" }, 30, 160),
    ]
    parts.removeAll { $0.least > columns }
    let fixed = parts.reduce(0) { $0 + $1.width + 2 }
    let name = max(10, min(60, columns - fixed))
    func row(_ first: String, _ text: (Column<TunnelStatus>) -> String) -> String {
      let cells = [Self.fit(first, name, .left)] + parts.map { Self.fit(text($0.column), $0.width, $0.column.side) }
      return cells.joined(separator: "  ")
    }
    title = row("TUNNEL") { $0.title }
    rows = tunnels.map { tunnel in (row(tunnel.name) { $0.text(tunnel) }, tunnel.state) }
  }

  private static func fit(_ text: String, _ width: Int, _ side: Column<TunnelStatus>.Side) -> String {
    guard text.count < width else { return String(text.prefix(width)) }
    let padding = String(repeating: " ", count: width - text.count)
    return side == .left ? text + padding : padding + text
  }
}

/// A line's history in one row of characters.
enum Spark {
  private static let blocks: [Character] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
  private static let plain: [Character] = [" ", ".", ":", "-", "=", "+", "*", "#", "@"]

  /// The newest values, by their share of the highest of them.
  static func text(_ values: [Double], width: Int, isUnicode: Bool) -> String {
    let shown = values.suffix(width)
    guard let highest = shown.max(), highest > 0 else { return "" }
    let steps = isUnicode ? blocks : plain
    return String(
      shown.map { value in
        value <= 0 ? steps[0] : steps[max(1, Int((value / highest * Double(steps.count - 1)).rounded()))]
      })
  }
}
