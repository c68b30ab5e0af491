import ArgumentParser
import ConfigurationFiles
import ControlAPI

struct Show: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows SAs, flows, counters and tables.",
    subcommands: [
      ShowTunnels.self, ShowSA.self, ShowFlow.self, ShowEncap.self, ShowListing<PortListing>.self,
      ShowListing<WorkerListing>.self,
      ShowListing<DropListing>.self, ShowListing<RouteListing>.self, ShowListing<NeighborListing>.self,
      ShowListing<EngineListing>.self, ShowStatus.self,
    ])
}

/// What the `show` commands have in common.
struct ShowOptions: ParsableArguments {
  @Flag(name: .long, help: "Print JSON as the API has it.")
  var json = false

  @Flag(name: .short, help: "Tell more; twice: still more.")
  var verbose: Int
}

/// `gwctl show NAME` of a listing: one path of the API, one table.
struct ShowListing<Rows: Listing>: ParsableCommand {
  static var configuration: CommandConfiguration {
    CommandConfiguration(commandName: Rows.name, abstract: Rows.abstract)
  }

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws {
    if options.json { return try global.printJSON(Rows.path) }
    let rows: [Rows.Row] = try global.ask { client throws(ControlClientError) in try client.get(Rows.path) }
    Terminal.standard.write(Rows.text(rows, verbosity: options.verbose))
  }
}

struct ShowSA: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sa", abstract: "Security associations, in ipsecctl's format.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions
  @Flag(name: .short, help: "Show keys; for root only.") var keys = false

  func run() throws {
    if options.json { return try global.printJSON("/v1/sa" + (keys ? "?keys=1" : "")) }
    let sas = try global.ask { client throws(ControlClientError) in try client.securityAssociations(keys: keys) }
    var printer = IPsecctlPrinter(options: PrintOptions(verbosity: min(options.verbose, 2), showsKeys: keys))
    guard options.verbose > 0 else { return Terminal.standard.write(printer.sas(sas)) }
    let names = try global.ask { client throws(ControlClientError) in try client.daemonNames() }
    let (completed, authentications) = names.complete(sas)
    printer.remoteAuthentications = authentications
    Terminal.standard.write(printer.sas(completed))
  }
}

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

struct ShowEncap: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encap", abstract: "Policies as the Encap table of OpenBSD's route -n show.")

  @OptionGroup var global: GlobalOptions
  @Flag(name: .long, help: "Print JSON as the API has it.") var json = false

  func run() throws {
    if json { return try global.printJSON("/v1/flow") }
    let policies = try global.ask { client throws(ControlClientError) in try client.policies() }
    Terminal.standard.write(EncapTablePrinter.text(policies))
  }
}

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

/// `gwctl status`: short for `gwctl show status`.
struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "The gateway as a whole.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions

  func run() throws { try ShowStatus.report(global, options) }
}
