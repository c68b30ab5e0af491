import ArgumentParser
import ControlAPI

extension FlushRequest.Target: ExpressibleByArgument {}

struct Flush: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes away all SAs, all flows, or both.",
    discussion: "Whoever made them: ipsec.conf, gwctl load or a key daemon. Prints nothing unless -v is given.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "What to take away.") var what = FlushRequest.Target.all
  @Flag(name: .short, help: "Say how many.") var verbose = false

  func run() throws {
    let report = try global.ask { client throws(ControlClientError) in try client.flush(what) }
    if verbose {
      Terminal.standard.write("flushed: \(Quantity.count(report.sas, "SA")), \(Quantity.count(report.flows, "flow"))\n")
    }
  }
}
