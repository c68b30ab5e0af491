import ArgumentParser
import ConfigurationFiles
import ControlAPI
import IKEControl

struct Load: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes the SAs and flows what an ipsec.conf says, all or none.",
    discussion: """
      What ipsec.conf or an earlier load had made and the file does not name goes, unless --add is given; SAs that stay \
      unchanged keep their sequence numbers and replay windows. gwd gives ike rules to the key daemon that gateway.yaml \
      names, now or when it comes; one that the daemon refuses is named, and makes the exit status 1. With --fifo they go \
      to an isakmpd instead.
      """)

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: RulesOptions
  @Flag(name: .short, help: "Only read the file; change nothing.") var noAction = false
  @Flag(name: .long, help: "Leave what the file does not name; what it names must not stand yet.") var add = false
  @Option(
    name: .long, help: ArgumentHelp("Send ike rules to an isakmpd that listens there.", valueName: "fifo"),
    completion: .file())
  var fifo: String?

  func run() throws {
    let rules = try options.read()
    let prepared: RulesFile.Prepared
    do { prepared = try rules.prepare(add ? .add : .replace, isAtomic: true, ike: fifo == nil) } catch {
      throw RulesOptions.failure(error)
    }
    if noAction { return }
    if !prepared.transaction.rules.isEmpty || !prepared.transaction.ike.isEmpty || !add { try send(prepared) }
    try tellIsakmpd(rules)
  }

  private func send(_ prepared: RulesFile.Prepared) throws(Failure) {
    let report: LoadReport
    do { report = try global.client.load(prepared.transaction) } catch {
      if case .refused(let refusal) = error, let failures = refusal.failures, !failures.isEmpty {
        throw RulesOptions.failure(failures, prepared, closing: "nothing was changed")
      }
      throw Failure(error)
    }
    guard report.failures.isEmpty else {
      throw RulesOptions.failure(report.failures, prepared, closing: "nothing was changed")
    }
    if options.verbose > 0 { Terminal.standard.error("gwctl: \(Quantity.changes(report))") }
    try RulesOptions.report(report.ike, verbose: options.verbose > 0)
  }

  private func tellIsakmpd(_ rules: RulesFile) throws(Failure) {
    guard let fifo else { return }
    for (rule, ike) in rules.ikeRules {
      do { try IsakmpdFIFO.send(IKECommands(ike, options: PrintOptions(hostname: IKEHost.name)), to: fifo) } catch {
        throw Failure(.failure, ["\(rule.file): \(rule.line): \(error.message)"])
      }
    }
  }
}
