import ArgumentParser
import ControlAPI

struct ShowNeighbors: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "neighbors", abstract: "Next hops and their MAC addresses.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/neighbors") }
    let neighbors = try global.ask { client throws(ControlClientError) in try client.neighbors() }
    Terminal.standard.write(NeighborTable.text(neighbors, verbosity: options.verbose))
  }
}
