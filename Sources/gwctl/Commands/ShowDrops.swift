import ArgumentParser
import ControlAPI

struct ShowDrops: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drops", abstract: "Dropped packets by reason; with -v the reasons at 0 too.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/drops") }
    let drops = try global.ask { client throws(ControlClientError) in try client.drops() }
    Terminal.standard.write(DropTable.text(drops, verbosity: options.verbose))
  }
}
