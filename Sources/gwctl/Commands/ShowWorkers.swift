import ArgumentParser
import ControlAPI

struct ShowWorkers: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "workers", abstract: "Workers: packets, bursts, cycles a packet, idle share.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON("/v1/workers") }
    let workers = try global.ask { client throws(ControlClientError) in try client.workers() }
    Terminal.standard.write(WorkerTable.text(workers, verbosity: options.verbose))
  }
}
