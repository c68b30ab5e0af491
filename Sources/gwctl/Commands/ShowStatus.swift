import ArgumentParser
import ControlAPI

struct ShowStatus: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "status", abstract: "The gateway as a whole.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws { try Self.report(global, options) }

  static func report(_ global: GlobalOptions, _ options: ShowOptions) throws(Failure) {
    if options.json { return try global.printJSON("/v1/status") }
    let status = try global.ask { client throws(ControlClientError) in try client.status() }
    Terminal.standard.write(StatusText.text(status, verbosity: options.verbose))
  }
}
