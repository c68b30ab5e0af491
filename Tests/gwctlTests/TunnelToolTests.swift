import ControlAPI
import ControlAPITesting
import Foundation
import Testing

@testable import gwctl

/// What gwctl makes of tunnels, flows and the log.
@Suite(.timeLimit(.minutes(2))) struct TunnelToolTests {
  @Test func tables() {
    let table = TunnelText.table([Samples.tunnel], now: 1_700_000_060)
    #expect(table.contains("from-192.168.60.0/24-to-172.20.1.0/24  up     00:01:00  198.51.100.2  1000 B  2.9 MiB"))
    let whole = TunnelText.whole([Samples.tunnel], now: 1_700_000_660)
    for part in ["up for 00:11:00", "2 times", "3, last 00:01:00 ago", "10 packets, 1000 B", "4 replay", "an ike rule"]
    {
      #expect(whole.contains(part), "\(part)")
    }
    var hostile = Samples.tunnel
    hostile.reason = "\u{1b}[2Jgone\r\n"
    hostile.name = "a\u{9b}b"
    for text in [TunnelText.table([hostile]), TunnelText.whole([hostile])] {
      #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || 0x7f...0x9f ~= $0.value })
    }
  }

  @Test func sparks() {
    #expect(Spark.text([], width: 5, isUnicode: true) == "")
    #expect(Spark.text([0, 0], width: 5, isUnicode: true) == "")
    #expect(Spark.text([0, 1, 50, 100], width: 5, isUnicode: true) == " ▁▄█")
    #expect(Spark.text([9, 9, 100, 50], width: 2, isUnicode: false) == "@=")
  }

  @Test func keys() {
    var view = TopView()
    func take(_ keys: TopView.Key...) -> Bool {
      var goesOn = true
      for key in keys { goesOn = view.take(key, page: 10, of: 100) }
      return goesOn
    }
    #expect(take(.character("d")) && view.order == .drops)
    #expect(take(.pageDown, .down) && view.offset == 11)
    #expect(take(.character("n")) && view.offset == 0 && view.query(rows: 7).limit == 7)
    // A letter of a filter is no command.
    #expect(take(.character("/"), .character("q"), .character("x"), .backspace) && view.query(rows: 1).filter == "q")
    #expect(take(.enter) && view.filter == "q" && view.typed == nil)
    #expect(take(.escape) && view.filter == nil)
    #expect(!take(.character("q")))
  }

  @Test func screensFit() {
    let look = TopLook(
      time: 2, status: GatewayStatus(version: "1"), workers: [], ports: [], drops: [],
      tunnels: [Samples.tunnel, Samples.tunnel])
    let page = TopPage(look, after: nil)
    for columns in [20, 60, 80, 120, 200] {
      let screen = TopScreen(page, TopView(), columns: columns, isUnicode: true)
      let drawn = screen.drawing(rows: 6).replacing(/\u{1b}\[[0-9;?]*[A-Za-z]/, with: "")
      let lines = drawn.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count == 6 && lines.allSatisfy { $0.count <= columns }, "\(columns)")
    }
  }

  @Test func moments() {
    let now = Date(timeIntervalSince1970: 1_700_000_000)
    #expect(Log.moment("90s", now: now) == 1_699_999_910)
    #expect(Log.moment("2h", now: now) == 1_699_992_800)
    #expect(Log.moment("2023-11-14T22:13:20Z", now: now) == 1_700_000_000)
    #expect(Log.moment("yesterday", now: now) == nil)
  }

  @Test func commands() async throws {
    try await ToolFixture.with { fixture in
      let encap = try await fixture.gwctl("show", "encap")
      #expect(encap.out.contains("Encap:\nSource             Port  Destination"))
      let link = fixture.directory + "/route"
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: ToolFixture.products + "/gwctl")
      let route = try await fixture.run(link, ["-n", "show"])
      #expect(route.out == "Routing tables\n" + encap.out && route.status == 0)
      #expect(try await fixture.run(link, ["add"]).status == 1)
      let log = try await fixture.gwctl("log", "--tunnel", "a")
      #expect(log.out == "2023-11-14T22:13:20Z notice: tunnel a: down\n")
      #expect(try await fixture.gwctl("log", "--since", "1s").out == "")
      #expect(try await fixture.gwctl("log", "--since", "noon").status == 64)
      #expect(try await fixture.gwctl("show", "tunnels", "nobody").status == 1)
    }
  }
}
