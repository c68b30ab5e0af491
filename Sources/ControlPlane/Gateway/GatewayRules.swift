import ConfigurationFiles
import ControlAPI
import DataPlane
import Engines
import Foundation
import IKEControl
import IPsec

/// `ipsec.conf` and transactions of the control API, on the database. Control thread.
extension Gateway {
  /// Makes what `ipsec.conf` owns what the file says; nothing changes if any of it is refused.
  func loadRules() throws { try applyRules(of: configuration) }

  func applyRules(of configuration: GatewayConfiguration) throws {
    guard let file = configuration.ipsec else {
      tunnels.replace([])
      return ike.replace([], settings: ikeSettings(configuration))
    }
    let transaction: Transaction
    let connections: [IKEConnection]
    do {
      let rules = try IPsecConf.parse(file: file)
      for diagnostic in rules.diagnostics + rules.cautions { logger.warning("\(diagnostic)") }
      transaction = try rules.transaction(allowWeak: configuration.allowWeak)
      connections = try rules.connections()
    } catch {
      throw GatewayError.rules(error.diagnostics.map(\.description))
    }
    let bundles = transaction.bundles.map { ConfigurationChange.Bundle(first: $0.first, then: $0.then) }
    let change = database.change(
      toConfiguration: transaction.sas.map { completed($0, configuration) }, policies: transaction.policies,
      bundles: bundles)
    try database.apply(change, origin: 0)
    tunnels.replace(connections)
    ike.replace(connections, settings: ikeSettings(configuration))
    logger.info(
      "\(file): \(transaction.sas.count) SAs and \(transaction.policies.count) flows; added \(change.addedSAs.count) and \(change.addedPolicies.count), removed \(change.removedSAs.count) and \(change.removedPolicies.count); \(connections.count) ike rules"
    )
  }

  /// Static keys say nothing of a replay window: gateway.yaml does.
  private func completed(_ sa: SAParameters, _ configuration: GatewayConfiguration) -> SAParameters {
    guard sa.owner == .configuration, sa.saProtocol == .esp || sa.saProtocol == .ah, sa.replayWindow == 0 else {
      return sa
    }
    var sa = sa
    sa.replayWindow = UInt32(configuration.manualReplayWindow)
    return sa
  }

  // MARK: Transactions of the control API

  /// The key daemon's part is ordered, and not done yet.
  func load(_ transaction: RuleTransaction) -> LoadReport {
    var report =
      switch transaction.mode {
      case .replace: replace(transaction, isDry: false)
      case .add, .delete: transaction.isAtomic ? loadTogether(transaction, isDry: false) : loadEach(transaction)
      }
    if report.failures.isEmpty || !transaction.isAtomic { orderIKE(transaction, &report) }
    return report
  }

  /// What `load` would say; nothing changes.
  func check(_ transaction: RuleTransaction) -> LoadReport {
    var report =
      transaction.mode == .replace ? replace(transaction, isDry: true) : loadTogether(transaction, isDry: true)
    report.ike = ike.check(transaction.ike)
    return report
  }

  /// All or nothing.
  private func loadTogether(_ transaction: RuleTransaction, isDry: Bool) -> LoadReport {
    var change = ConfigurationChange()
    var bundles: [ConfigurationChange.Bundle] = []
    var sas: [SAParameters] = []
    for rule in transaction.rules {
      switch (rule, transaction.mode) {
      case (.sa(let sa), .delete): change.removedSAs.append(sa.identifier)
      case (.sa(let sa), _): sas.append(completed(sa, configuration))
      case (.policy(let policy), .delete):
        change.removedPolicies.append(.init(direction: policy.direction, selector: policy.selector))
      case (.policy(let policy), _): change.addedPolicies.append(policy)
      case (.bundle(let first, let then), _): bundles.append(.init(first: first, then: then))
      }
    }
    if transaction.mode == .add {
      change = ConfigurationChange(adding: sas, policies: change.addedPolicies, bundles: bundles)
    }
    return apply(change, rules: transaction.rules, isDry: isDry)
  }

  private func replace(_ transaction: RuleTransaction, isDry: Bool) -> LoadReport {
    var sas: [SAParameters] = []
    var policies: [PolicyParameters] = []
    var bundles: [ConfigurationChange.Bundle] = []
    for rule in transaction.rules {
      switch rule {
      case .sa(let sa): sas.append(completed(sa, configuration))
      case .policy(let policy): policies.append(policy)
      case .bundle(let first, let then): bundles.append(.init(first: first, then: then))
      }
    }
    let change = database.change(toConfiguration: sas, policies: policies, bundles: bundles)
    var report = apply(change, rules: transaction.rules, isDry: isDry)
    if report.failures.isEmpty {
      report.unchanged = sas.count + policies.count - change.addedSAs.count - change.addedPolicies.count
    }
    return report
  }

  private func apply(_ change: ConfigurationChange, rules: [RuleTransaction.Rule], isDry: Bool) -> LoadReport {
    var report = LoadReport()
    do throws(DatabaseError) {
      if isDry { try database.check(change) } else { try database.apply(change, origin: 0) }
    } catch {
      report.failures = [LoadReport.Failure(rule: culprit(rules), error)]
      return report
    }
    report.sasAdded = change.addedSAs.count
    report.policiesAdded = change.addedPolicies.count
    report.sasDeleted = change.removedSAs.count
    report.policiesDeleted = change.removedPolicies.count
    return report
  }

  /// The rule that the database refused; nil if none of them alone.
  private func culprit(_ rules: [RuleTransaction.Rule]) -> Int? {
    guard let part = database.culprit else { return nil }
    return rules.firstIndex { rule in
      switch (rule, part) {
      case (.sa(let sa), .sa(let id)): sa.identifier == id
      case (.policy(let policy), .policy(let name)):
        policy.direction == name.direction && policy.selector == name.selector
      default: false
      }
    }
  }

  private func loadEach(_ transaction: RuleTransaction) -> LoadReport {
    var report = LoadReport()
    if transaction.mode == .add {
      database.reserveNumbers(
        ahead: transaction.rules.compactMap { if case .sa(let sa) = $0 { completed(sa, configuration) } else { nil } })
    }
    for (index, rule) in transaction.rules.enumerated() {
      do throws(DatabaseError) {
        if transaction.mode == .delete { try delete(rule, &report) } else { try add(rule, &report) }
      } catch {
        report.failures.append(LoadReport.Failure(rule: index, error))
      }
    }
    return report
  }

  private func add(_ rule: RuleTransaction.Rule, _ report: inout LoadReport) throws(DatabaseError) {
    switch rule {
    case .sa(let sa):
      try database.add(completed(sa, configuration), origin: 0)
      report.sasAdded += 1
    case .policy(let policy):
      _ = try database.add(policy, replacing: true, origin: 0)
      report.policiesAdded += 1
    case .bundle(let first, let then):
      try database.bundle(first, with: then, origin: 0)
    }
  }

  private func delete(_ rule: RuleTransaction.Rule, _ report: inout LoadReport) throws(DatabaseError) {
    switch rule {
    case .sa(let sa):
      try database.delete(sa.identifier, origin: 0)
      report.sasDeleted += 1
    case .policy(let policy):
      try database.deletePolicy(
        direction: policy.direction, selector: policy.selector, mark: policy.mark, interfaceID: policy.interfaceID,
        origin: 0)
      report.policiesDeleted += 1
    case .bundle: break
    }
  }

  func flush(_ target: FlushRequest.Target) -> FlushReport {
    let before = (database.saCount(), database.policyCount())
    doing("flushed by gwctl") {
      if target != .sa { database.flushPolicies(owner: nil, origin: 0) }
      if target != .flow { database.flushSAs(nil, owner: nil, origin: 0) }
    }
    return FlushReport(sas: before.0 - database.saCount(), flows: before.1 - database.policyCount())
  }

  // MARK: Reload

  /// gateway.yaml and ipsec.conf anew, as one transaction: all of it, or none and the reasons.
  func reload() -> ReloadReport {
    serviceManager?.reloading()
    defer { serviceManager?.ready() }
    var report = ReloadReport(atSeconds: Date().timeIntervalSince1970, succeeded: true, messages: [])
    do {
      let new = try GatewayConfiguration(contentsOf: paths.configuration)
      report.messages = try apply(new)
      for message in report.messages { logger.notice("reload: \(message)") }
      logger.notice("reload: done")
    } catch {
      report.succeeded = false
      report.messages = "\(error)".split(separator: "\n").map(String.init)
      for message in report.messages { logger.error("reload refused, nothing was changed: \(message)") }
    }
    lastReload = report
    events.publish(.reloaded(report))
    return report
  }

  private func apply(_ new: GatewayConfiguration) throws -> [String] {
    let old = configuration
    let fixed = Self.fixedDifferences(old, new)
    guard fixed.isEmpty else { throw GatewayError.restartNeeded(fixed) }
    // The rules are the part that can be refused; what follows was checked when the file was read, and is put back if it
    // fails all the same.
    database.permits = Self.permits(new)
    do { try applyRules(of: new) } catch {
      database.permits = Self.permits(old)
      throw error
    }
    do {
      try applyRoutes(new)
      try applyNeighbors(from: old.neighbors, to: new.neighbors)
    } catch {
      database.permits = Self.permits(old)
      try? applyRoutes(old)
      try? applyNeighbors(from: new.neighbors, to: old.neighbors)
      try? applyRules(of: old)
      throw error
    }
    configuration = new
    for index in new.ports.indices where new.ports[index].addresses != old.ports[index].addresses {
      try applyAddresses(index)
    }
    if old.routes != new.routes { giveRoutesToKernel() }
    keySockets?.follow(new)
    givePacketChoices()
    givePaddingChoice()
    return Self.changes(old, new)
  }

  /// What workers do with fragments, and which sources they take, from now on.
  func givePacketChoices() {
    let shared = dataPlane.shared
    shared.pointee.fragmentAfter.store(configuration.fragments == .after, ordering: .relaxed)
    let portless: PortlessFragments =
      switch configuration.portlessFragments {
      case .auto: .auto
      case .match: .match
      case .drop: .drop
      }
    let dropsOthers =
      shared.pointee.portlessFragments.exchange(portless.rawValue, ordering: .relaxed) != portless.rawValue
    let checksOthers = shared.pointee.sourceChecks.set(configuration.sourceChecks.map(SourceCheck.init))
    if dropsOthers || checksOthers { routesChanged() }
  }

  /// What workers take for ESP padding, from now on.
  func givePaddingChoice() {
    dataPlane.shared.pointee.acceptsAnyPadding.store(configuration.espPadding == .any, ordering: .relaxed)
  }

  private func applyAddresses(_ index: Int) throws {
    if configuration.ports[index].host, let hostNetwork {
      for failure in try hostNetwork.attach(hostPort(index)) { logger.warning("\(failure)") }
    } else if var interface = routing.interface(port: UInt16(index)) {
      interface.addresses = configuration.ports[index].localAddresses
      try routing.set(interface)
    }
    database.ownAddressesChanged()
    tunnels.noteAll(cause: nil)
  }

  /// What only a new start can change.
  private static func fixedDifferences(_ old: GatewayConfiguration, _ new: GatewayConfiguration) -> [String] {
    var different: [String] = []
    if old.eal != new.eal { different.append("eal") }
    if old.hugepages != new.hugepages { different.append("hugepages") }
    if old.memory != new.memory { different.append("memory") }
    if old.workers != new.workers { different.append("workers") }
    if old.idle != new.idle { different.append("idle") }
    if old.crypto != new.crypto { different.append("crypto") }
    if old.burst != new.burst { different.append("burst") }
    if old.limits != new.limits { different.append("limits") }
    if old.metrics != new.metrics { different.append("metrics") }
    func fixed(_ port: ConfigurationFiles.Port) -> ConfigurationFiles.Port {
      var port = port
      port.addresses = []
      port.sourceCheck = nil
      return port
    }
    if old.ports.map(fixed) != new.ports.map(fixed) { different.append("ports") }
    return different
  }

  private static func changes(_ old: GatewayConfiguration, _ new: GatewayConfiguration) -> [String] {
    var changes: [String] = []
    if old.routes != new.routes { changes.append("routes: \(new.routes.count)") }
    if old.neighbors != new.neighbors { changes.append("neighbors: \(new.neighbors.count)") }
    if old.ports.map(\.addresses) != new.ports.map(\.addresses) { changes.append("addresses of ports") }
    if old.sourceChecks != new.sourceChecks { changes.append("source-check") }
    if old.onIKEExit != new.onIKEExit { changes.append("on-ike-exit") }
    if old.fragments != new.fragments || old.portlessFragments != new.portlessFragments { changes.append("fragments") }
    if old.espPadding != new.espPadding { changes.append("esp-padding") }
    if old.dummyPackets != new.dummyPackets { changes.append("dummy-packets") }
    if old.allowWeak != new.allowWeak { changes.append("allow-weak") }
    if old.lowSPIs != new.lowSPIs { changes.append("low-spis") }
    if old.metricsTunnels != new.metricsTunnels { changes.append("metrics: tunnels") }
    if old.ike != new.ike { changes.append("ike") }
    return changes
  }
}

extension SourceCheck {
  init(_ choice: GatewayConfiguration.SourceCheck) {
    self =
      switch choice {
      case .auto: .auto
      case .strict: .strict
      case .loose: .loose
      case .off: .off
      }
  }
}
