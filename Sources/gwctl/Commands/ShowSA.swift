import ArgumentParser
import ConfigurationFiles
import ControlAPI

struct ShowSA: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sa", abstract: "Security associations, in ipsecctl's format.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions
  @Flag(name: .short, help: "Show keys; for root only.") var keys = false

  func run() throws {
    if options.json { return try global.printJSON("/v1/sa" + (keys ? "?keys=1" : "")) }
    let sas = try global.ask { client throws(ControlClientError) in try client.securityAssociations(keys: keys) }
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: min(options.verbose, 2), showsKeys: keys))
    Terminal.standard.write(printer.sas(sas))
  }
}
