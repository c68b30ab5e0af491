import ArgumentParser
import ConfigurationFiles
import ControlAPI

struct ShowFlow: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "flow", abstract: "Policies, in ipsecctl's format.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions
  @Flag(name: .short, help: "Collapse flows that differ in source or destination only.") var collapse = false

  func run() throws {
    if options.json { return try global.printJSON("/v1/flow") }
    let policies = try global.ask { client throws(ControlClientError) in try client.policies() }
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: min(options.verbose, 2), collapses: collapse))
    Terminal.standard.write(printer.flows(policies))
  }
}
