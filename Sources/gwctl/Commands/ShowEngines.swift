import ArgumentParser
import ControlAPI

struct ShowEngines: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engines", abstract: "Crypto engines, what each was picked for and what it costs.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/engines") }
    let engines = try global.ask { client throws(ControlClientError) in try client.engines() }
    Terminal.standard.write(EngineTable.text(engines, verbosity: options.verbose))
  }
}
