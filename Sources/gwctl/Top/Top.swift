import ArgumentParser
import ControlAPI
import Foundation

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The busiest tunnels and the gateway as a whole, again every second.",
    discussion: """
      Keys: r, d, a, n and s sort by rate, drops, age (those that changed last first), name and state (those that are down \
      first); / filters by name and peer, Escape shows all again; the arrows and PageUp and PageDown move; q ends. Where \
      the terminal cannot move its cursor, or the output is a file, pages are written one below the other.
      """)

  @OptionGroup var global: GlobalOptions
  @Option(help: ArgumentHelp("Only tunnels in this state; may be repeated.", valueName: "state"))
  var state: [TunnelStatus.State] = []
  @Option(help: ArgumentHelp("Only tunnels whose name or peer contains this.", valueName: "text")) var filter: String?
  @Option(help: ArgumentHelp("The order: rate, drops, age, name or state.", valueName: "order"))
  var sort = TunnelQuery.Order.rate
  @Option(name: .short, help: ArgumentHelp("End after so many looks.", valueName: "count")) var number: Int?
  @Option(help: ArgumentHelp("Seconds between two looks.", valueName: "seconds")) var interval = 1.0
  @Flag(help: "One look, as text.") var once = false
  @Flag(help: "Print JSON, one look a line.") var json = false

  func validate() throws {
    if let number, number < 1 { throw ValidationError("-n is a number above 0") }
    guard interval >= 0.1, interval <= 3600 else { throw ValidationError("--interval is from 0.1 to 3600 seconds") }
  }

  func run() throws {
    var view = TopView(order: sort, filter: filter, states: state.isEmpty ? nil : Set(state))
    let looks = once ? 1 : number
    if json || once || !TopTerminal.canDraw {
      return try writePages(&view, looks: looks)
    }
    try draw(&view, looks: looks)
  }

  /// Lines of tunnels on a page of text, and in an answer of JSON.
  private static let pageRows = 1000

  private func writePages(_ view: inout TopView, looks: Int?) throws {
    let terminal = Terminal.standard
    let size = TopTerminal.size
    // A file is as wide as it has to be.
    let columns = TopTerminal.isTerminal ? max(80, size.columns) : 200
    let rows = once || json ? Self.pageRows : max(1, size.rows - TopScreen.headerRows)
    var last = try TopLook(global, view, rows: rows)
    var count = 0
    while looks.map({ count < $0 }) ?? true {
      Thread.sleep(forTimeInterval: interval)
      let look = try TopLook(global, view, rows: rows)
      let page = TopPage(look, after: last)
      if json {
        terminal.write(String(decoding: try APICoding.encode(page), as: UTF8.self) + "\n")
      } else {
        let screen = TopScreen(page, view, columns: columns, isUnicode: TopTerminal.isUnicode)
        terminal.write((count > 0 ? "\n" : "") + screen.plainText)
      }
      terminal.flush()
      last = look
      count += 1
    }
  }

  private func draw(_ view: inout TopView, looks: Int?) throws {
    let terminal = TopTerminal()
    defer { terminal.restore() }
    var last = try TopLook(global, view, rows: terminal.tunnelRows)
    var page = TopPage(last, after: nil)
    var count = 0
    while true {
      terminal.show(TopScreen(page, view, columns: TopTerminal.size.columns, isUnicode: TopTerminal.isUnicode))
      guard looks.map({ count < $0 }) ?? true else { return }
      var needsLook = false
      let due = ContinuousClock.now + .seconds(interval)
      while !needsLook {
        switch terminal.wait(until: due) {
        case .time: needsLook = true
        case .end: return
        case .resized:
          view.scroll(0, page: terminal.tunnelRows, of: page.matching)
          needsLook = true
        case .key(let key):
          guard view.take(key, page: terminal.tunnelRows, of: page.matching) else { return }
          needsLook = true
        }
      }
      let look = try TopLook(global, view, rows: terminal.tunnelRows)
      // Rates of less than a moment say nothing: what was shown stays.
      let spans = look.time - last.time >= 0.5
      page = spans ? TopPage(look, after: last) : page.with(look.tunnels)
      if spans {
        last = look
        count += 1
      }
    }
  }
}
