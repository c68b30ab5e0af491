import ArgumentParser
import ControlAPI
import Foundation

struct Monitor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Follows changes of SAs and flows, one a line, until interrupted.")

  @OptionGroup var global: GlobalOptions
  @Flag(name: .long, help: "Print JSON, one event a line.") var json = false

  func run() throws {
    let terminal = Terminal.standard
    try global.ask { client throws(ControlClientError) in
      try client.events { event in
        terminal.write(json ? Self.json(event) : EventText.line(event))
        terminal.flush()
        return true
      }
    }
    throw Failure(.unavailable, ["gwd closed the connection"])
  }

  private static func json(_ event: GatewayEvent) -> String {
    (try? APICoding.encode(event)).map { String(decoding: $0, as: UTF8.self) + "\n" } ?? ""
  }
}
