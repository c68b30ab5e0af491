import ArgumentParser
import ControlAPI

struct Delete: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes away the SAs and flows that an ipsec.conf names, and its ike rules with their SAs.",
    discussion: "What is there goes; what is not is reported, and makes the exit status 1.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: RulesOptions
  @Flag(name: .short, help: "Only read the file; change nothing.") var noAction = false

  func run() throws {
    let rules = try options.read(deletes: true)
    let prepared: RulesFile.Prepared
    do { prepared = try rules.prepare(.delete, isAtomic: false) } catch { throw RulesOptions.failure(error) }
    if noAction || prepared.transaction.rules.isEmpty && prepared.transaction.ike.isEmpty { return }
    let report = try global.ask { client throws(ControlClientError) in try client.load(prepared.transaction) }
    if options.verbose > 0 { Terminal.standard.error("gwctl: \(Quantity.changes(report))") }
    guard report.failures.isEmpty else {
      throw RulesOptions.failure(report.failures, prepared, closing: "not all could be deleted")
    }
    try RulesOptions.report(report.ike, verbose: false)
  }
}
