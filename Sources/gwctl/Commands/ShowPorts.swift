import ArgumentParser
import ControlAPI

struct ShowPorts: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ports", abstract: "Ports, their links and counters.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/ports") }
    let ports = try global.ask { client throws(ControlClientError) in try client.ports() }
    Terminal.standard.write(PortTable.text(ports, verbosity: options.verbose))
  }
}
