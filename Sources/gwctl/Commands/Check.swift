import ArgumentParser
import ConfigurationFiles
import ControlAPI

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks an ipsec.conf, or a gateway.yaml and the ipsec.conf that it names.",
    discussion: "A file that ends in .yaml or .yml is a gateway.yaml. No gwd is needed, except for --live.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: RulesOptions
  @Flag(name: .long, help: "Ask the running gateway too whether it would load the ipsec.conf.") var live = false

  func run() throws {
    if options.file.hasSuffix(".yaml") || options.file.hasSuffix(".yml") { return try checkGateway() }
    try checkRules(options)
  }

  private func checkGateway() throws {
    let gateway: GatewayConfiguration
    do { gateway = try GatewayConfiguration(contentsOf: options.file) } catch {
      throw Failure(.configuration, ["\(error)"])
    }
    Terminal.standard.write(
      "\(options.file): \(Quantity.count(gateway.ports.count, "port")), \(Quantity.count(gateway.routes.count, "route")), "
        + "\(Quantity.count(gateway.neighbors.count, "neighbor"))\n")
    guard let ipsec = gateway.ipsec else { return }
    var rules = options
    rules.file = ipsec
    try checkRules(rules)
  }

  private func checkRules(_ options: RulesOptions) throws {
    let rules = try options.read()
    let prepared: RulesFile.Prepared
    do { prepared = try rules.prepare(.add, isAtomic: true) } catch { throw RulesOptions.failure(error) }
    if live {
      let report = try global.ask { client throws(ControlClientError) in try client.check(prepared.transaction) }
      guard report.failures.isEmpty else {
        throw RulesOptions.failure(report.failures, prepared, closing: "the gateway would refuse")
      }
      try RulesOptions.report(report.ike, verbose: false)
    }
    let counts = prepared.transaction.rules.reduce(into: (sas: 0, flows: 0, bundles: 0)) { counts, rule in
      switch rule {
      case .sa: counts.sas += 1
      case .policy: counts.flows += 1
      case .bundle: counts.bundles += 1
      }
    }
    Terminal.standard.write(
      "\(options.file): \(Quantity.count(counts.sas, "SA")), \(Quantity.count(counts.flows, "flow")), "
        + "\(Quantity.count(counts.bundles, "bundle")), \(Quantity.count(rules.ikeRules.count, "ike rule"))\n")
  }
}
