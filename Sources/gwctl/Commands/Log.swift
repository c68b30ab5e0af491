import ArgumentParser
import ControlAPI
import Foundation

struct Log: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What gwd has logged: the last 4096 lines, which it keeps in memory.",
    discussion: "Under systemd the journal has all of it: journalctl -u gwd, and with GW_TUNNEL=NAME that of a tunnel.")

  @OptionGroup var global: GlobalOptions
  @Option(
    help: ArgumentHelp(
      "Only from then on: 90s, 10m, 2h or 1d ago, or a date and time as 2026-11-30T08:00:00Z.", valueName: "time"))
  var since: String?
  @Option(help: ArgumentHelp("Only what is about this tunnel.", valueName: "name")) var tunnel: String?
  @Flag(help: "Print JSON as the API has it.") var json = false

  func run() throws {
    var moment = 0.0
    if let since {
      guard let read = Self.moment(since, now: Date()) else {
        throw ValidationError("--since \(since): expected 90s, 10m, 2h, 1d, or a time as 2026-11-30T08:00:00Z")
      }
      moment = read
    }
    let lines = try global.ask { client throws(ControlClientError) in try client.log(since: moment) }
    let wanted = lines.filter { tunnel == nil || $0.fields["tunnel"] == tunnel }
    if json { return Terminal.standard.write(String(decoding: try APICoding.encode(wanted), as: UTF8.self) + "\n") }
    for line in wanted {
      Terminal.standard.write("\(StatusText.time(line.atSeconds)) \(line.level): \(Table.plain(line.text))\n")
    }
  }

  /// Seconds since the epoch.
  static func moment(_ text: String, now: Date) -> Double? {
    let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    if let last = text.last, let unit = units[last], let number = Double(text.dropLast()), number >= 0 {
      return now.timeIntervalSince1970 - number * unit
    }
    return (try? Date(text, strategy: .iso8601))?.timeIntervalSince1970
  }
}
