import ArgumentParser
import ControlAPI

struct ShowRoutes: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "routes", abstract: "Routes of the data path.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/routes") }
    let routes = try global.ask { client throws(ControlClientError) in try client.routes() }
    Terminal.standard.write(RouteTable.text(routes, verbosity: options.verbose))
  }
}
