import ConfigurationFiles
import ControlAPI
import IKEControl
import IPsec
import KeyManagement

/// OpenBSD's ipsecctl(8) over the control API: its options, its output, its messages and its exit status.
struct Ipsecctl {
  /// The name that messages begin with.
  let name: String
  let socketPath: String
  let terminal: Terminal

  private var client: ControlClient { ControlClient(socketPath: socketPath) }

  /// Ends the program, as err(3) does.
  private struct Exit: Error {
    var message: String?
  }

  /// - Returns: the exit status.
  func run(_ arguments: [String]) -> Int32 {
    let options: IpsecctlOptions
    do { options = try IpsecctlOptions(arguments) } catch {
      if let message = error.message { warn(message) }
      terminal.error(
        "usage: \(name) [-cdFkmnv] [-D macro=value] [-f file] [-i fifo] [-s modifier]")
      return 1
    }
    do {
      return try perform(options) ? 0 : 1
    } catch {
      if let message = error.message { warn(message) }
      return 1
    }
  }

  private func warn(_ message: String) { terminal.error("\(name): \(message)") }

  /// False if something failed on the way.
  private func perform(_ options: IpsecctlOptions) throws(Exit) -> Bool {
    var isGood = true
    let macros = macros(options)
    if options.flushes && !options.noAction { try flush() }
    if let file = options.rulesFile, try !loadRules(file, macros, options) { isGood = false }
    if let listing = options.listing { try show(listing, options) }
    if options.monitors { try monitor(options) }
    return isGood
  }

  private func macros(_ options: IpsecctlOptions) -> [Macro] {
    options.macros.compactMap { text in
      let macro = Macro(argument: text)
      if macro == nil { warn("could not parse macro definition \(text)") }
      return macro
    }
  }

  private func printOptions(_ options: IpsecctlOptions) -> PrintOptions {
    PrintOptions(
      verbosity: options.verbosity, showsKeys: options.showsKeys, collapses: options.collapses,
      deletes: options.deletes, hostname: IKEHost.name)
  }

  private func ask<Value>(
    _ purpose: String, _ request: (ControlClient) throws(ControlClientError) -> Value
  ) throws(Exit) -> Value {
    do { return try request(client) } catch { throw Exit(message: "\(purpose): \(error)") }
  }

  // MARK: -F

  private func flush() throws(Exit) {
    _ = try ask("pfkey_init: failed to open PF_KEY socket") { client throws(ControlClientError) in
      try client.flush(.all)
    }
  }

  // MARK: -f

  private func loadRules(_ file: String, _ macros: [Macro], _ options: IpsecctlOptions) throws(Exit) -> Bool {
    let rules: RulesFile
    do { rules = try RulesFile(path: file, macros: macros) } catch {
      // What is said comes before what is shown, as there, where standard output waits in its buffer.
      for line in error.lines(program: name) { terminal.error(line) }
      echo(error.echo, options)
      if error.isFatal { throw Exit() }
      return false
    }
    for diagnostic in rules.conf.diagnostics { terminal.error(diagnostic.text(program: name)) }
    if options.verbosity > 1 {
      for macro in rules.conf.unusedMacros { terminal.error("warning: macro '\(macro)' not used") }
    }
    echo(rules.conf.echo, options)
    return options.noAction ? true : try commit(rules, options)
  }

  /// Each thing that is accepted; rules are left out where a listing follows.
  private func echo(_ echo: [IPsecConf.Echo], _ options: IpsecctlOptions) {
    let shown = echo.filter {
      if case .rule = $0 { options.listing == nil } else { true }
    }
    let output = RulePrinter(options: printOptions(options)).output(shown)
    for diagnostic in output.diagnostics { terminal.error(diagnostic.text(program: name)) }
    terminal.write(output.text)
  }

  private func commit(_ rules: RulesFile, _ options: IpsecctlOptions) throws(Exit) -> Bool {
    let prepared: RulesFile.Prepared
    let fifo = options.fifo ?? IsakmpdFIFO.standing
    do { prepared = try rules.prepare(options.deletes ? .delete : .add, isAtomic: false, ike: fifo == nil) } catch {
      for diagnostic in error.diagnostics { terminal.error(diagnostic.text(program: name)) }
      return false
    }
    var failed: [(number: Int, kind: String, reason: String)] = []
    if !prepared.transaction.rules.isEmpty || !prepared.transaction.ike.isEmpty {
      let report = try ask("pfkey_init: failed to open PF_KEY socket") { client throws(ControlClientError) in
        try client.load(prepared.transaction)
      }
      // What is there already is as good as added.
      for failure in report.failures where failure.kind != .exists {
        guard let rule = failure.rule, prepared.sources.indices.contains(rule) else { continue }
        failed.append((prepared.sources[rule].number, "rule", "PF_KEY failed: \(Self.errorText(failure))"))
      }
      // Rule and line tell which; the number is the rule's in the order of all.
      let numbers = rules.ikeRules.map(\.rule)
      for status in report.ike where status.state == .failed {
        let number = numbers.first { $0.file == status.file && $0.line == status.line }?.number ?? 0
        failed.append((number, "ike rule", "\(status.name): \(status.reason ?? "refused")"))
      }
    }
    if let fifo { try tellIsakmpd(rules, fifo, options, &failed) }
    for failure in failed.sorted(by: { $0.number < $1.number }) {
      warn(failure.reason)
      warn("failed to \(options.deletes ? "delete" : "add") \(failure.kind) \(failure.number)")
    }
    return failed.isEmpty
  }

  private func tellIsakmpd(
    _ rules: RulesFile, _ fifo: String, _ options: IpsecctlOptions,
    _ failed: inout [(number: Int, kind: String, reason: String)]
  ) throws(Exit) {
    for (rule, ike) in rules.ikeRules {
      do {
        try IsakmpdFIFO.send(IKECommands(ike, options: printOptions(options)), to: fifo)
      } catch {
        if error.isFatal { throw Exit(message: error.message) }
        failed.append((rule.number, "ike rule", error.message))
      }
    }
  }

  /// What strerror(3) says of the errno that PF_KEY answers with.
  private static func errorText(_ failure: LoadReport.Failure) -> String {
    switch failure.kind {
    case .notFound: "No such process"
    case .invalid, .malformed: "Invalid argument"
    case .unsupported: "Operation not supported: \(failure.reason)"
    case .full: "No buffer space available"
    default: failure.reason
    }
  }

  // MARK: -s

  private func show(_ listing: IpsecctlOptions.Listing, _ options: IpsecctlOptions) throws(Exit) {
    var printer = IPsecctlPrinter(options: printOptions(options))
    let flows =
      listing == .sa
      ? []
      : try ask("ipsecctl_get_rules: sysctl") { client throws(ControlClientError) in try client.policies() }
    var sas =
      listing == .flow
      ? []
      : try ask("ipsecctl_show: sysctl") { client throws(ControlClientError) in
        try client.securityAssociations(keys: options.showsKeys)
      }
    if options.verbosity > 0, listing != .flow {
      let names = try ask("ipsecctl_show: sysctl") { client throws(ControlClientError) in try client.daemonNames() }
      (sas, printer.remoteAuthentications) = names.complete(sas)
    }
    switch listing {
    case .flow: terminal.write(printer.flows(flows))
    case .sa: terminal.write(printer.sas(sas))
    case .all: terminal.write(printer.all(policies: flows, sas: sas))
    }
  }

  // MARK: -m

  /// Until the gateway goes away.
  private func monitor(_ options: IpsecctlOptions) throws(Exit) {
    var printer = MonitorPrinter()
    try ask("pfkey_init: failed to open PF_KEY socket") { client throws(ControlClientError) in
      try client.events { event in
        if case .lost(let count) = event.body { warn("\(count) messages lost") }
        if case .database(let change) = event.body {
          let (told, process) = (DatabaseEvent(change), UInt32(bitPattern: event.process ?? 0))
          terminal.write(printer.text(told, pid: process))
          if options.verbosity > 1 {
            // The number that the text before it has.
            let number = printer.lastSequence
            terminal.write(
              MonitorPrinter.raw(PFKeyMonitorMessage.bytes(told, sequence: number, process: process)))
          }
          terminal.flush()
        }
        return true
      }
    }
  }
}
