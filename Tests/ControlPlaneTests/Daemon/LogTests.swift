import ControlAPI
import Foundation
import Glibc
import Testing

@testable import ControlPlane

@Suite struct LogTests {
  @Test func theLastLinesAreKept() {
    let memory = LogMemory()
    for number in 0..<5000 { memory.append(LogLine(atSeconds: Double(number), level: "info", text: "\(number)")) }
    let lines = memory.lines(since: 0)
    #expect(lines.count == 4096 && lines.first?.text == "904" && lines.last?.text == "4999")
    #expect(memory.lines(since: 4998).map(\.text) == ["4998", "4999"])
    memory.append(LogLine(atSeconds: 9999, level: "info", text: String(repeating: "x", count: 5000)))
    #expect(memory.lines(since: 9999)[0].text.count == 1024)
  }

  /// As systemd's JOURNAL_NATIVE_PROTOCOL has it.
  @Test func fieldsForTheJournal() throws {
    let path = NSTemporaryDirectory() + "journal-\(UUID().uuidString.prefix(8))"
    #expect(JournalSocket(path: path) == nil)
    let listener = ListeningDatagramSocket(path: path)
    let journal = try #require(JournalSocket(path: path))
    #expect(journal.send([("MESSAGE", "one"), ("GW_TUNNEL", "a\nb")]))
    let expected = Array("MESSAGE=one\nGW_TUNNEL\n".utf8) + [3, 0, 0, 0, 0, 0, 0, 0] + Array("a\nb\n".utf8)
    #expect(listener.heard == [expected])
  }
}
