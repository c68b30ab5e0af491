import CLayout
import Wire

/// Which SA an outbound policy uses: the newest mature one that its template fits; each is put into `gw_policy.sa` in
/// one store, so traffic goes from the old SA to the new one between two bursts.
extension SecurityDatabase {
  // MARK: Policies and SAs find each other

  func noteNeeds(of policy: PolicyEntry) {
    for need in policy.needs ?? [] { policiesByNeed[need.key, default: [:]][policy.index] = policy }
  }

  func forgetNeeds(of policy: PolicyEntry) {
    for need in policy.needs ?? [] {
      policiesByNeed[need.key]?[policy.index] = nil
      if policiesByNeed[need.key]?.isEmpty == true { policiesByNeed[need.key] = nil }
    }
  }

  /// Policies for which the SA may count, or did.
  private func policies(near entry: SAEntry) -> [PolicyEntry] {
    let any = policiesByNeed[BindingKey(entry, requestID: 0)]
    let own = entry.requestID == 0 ? nil : policiesByNeed[BindingKey(entry, requestID: entry.requestID)]
    guard let any else { return own.map { Array($0.values) } ?? [] }
    return Array(any.values) + (own.map { Array($0.values) } ?? [])
  }

  func policies(using entry: SAEntry) -> [PolicyEntry] {
    policies(near: entry).filter { $0.chain.contains(entry.serial) }
  }

  /// After an SA changed.
  func rebindPolicies(for entry: SAEntry) {
    guard !entry.isInbound else { return }
    for policy in policies(near: entry) { rebind(policy) }
  }

  /// After an SA went or is dying: the policies that do without it are as they were.
  func rebindPolicies(using entry: SAEntry) {
    guard !entry.isInbound else { return }
    for policy in policies(using: entry) { rebind(policy) }
  }

  /// After an SA came, which is the newest now: where one template is all there is, it is the best if it fits. Thousands
  /// of policies may share a peer and ask for no request ID, so this does not search.
  func bindPolicies(to entry: SAEntry) {
    guard !entry.isInbound else { return }
    let chain = [entry.serial]
    for policy in policies(near: entry) {
      guard let needs = policy.needs, needs.count == 1 else {
        rebind(policy)
        continue
      }
      if needs[0].spi != 0, needs[0].spi != entry.identifier.spi { continue }
      if fits(entry, needs[0], policy) { use(chain, first: entry.sa, policy) }
    }
  }

  /// Finds the SAs of an outbound policy anew and publishes them.
  func rebind(_ policy: PolicyEntry) {
    guard let needs = policy.needs else { return }
    var chain: [SAEntry] = []
    for need in needs {
      if let entry = best(for: need, policy) {
        chain.append(entry)
      } else if !need.isOptional {
        chain = []
        break
      }
    }
    // The innermost template's SA leads to the others. Links go before what leads to them.
    for position in chain.indices.dropLast().reversed() { link(chain[position], to: chain[position + 1]) }
    use(chain.map(\.serial), first: chain.first?.sa, policy)
  }

  private func use(_ chain: [UInt32], first: UnsafeMutablePointer<gw_sa>?, _ policy: PolicyEntry) {
    policy.chain = chain
    // Workers read this line with every packet: it is written only when it changes.
    if policy.policy.loadSA() != first { policy.policy.storeSA(first) }
    if !chain.isEmpty { policyHasSA(policy) }
  }

  private func best(for need: TemplateNeed, _ policy: PolicyEntry) -> SAEntry? {
    if need.spi != 0 {
      let id = SAIdentifier(spi: need.spi, destination: need.key.peer, saProtocol: need.key.saProtocol)
      guard let entry = find(id), entry.isUsable, !entry.isInbound, fits(entry, need, policy) else { return nil }
      return entry
    }
    return bindings.best(
      saProtocol: need.key.saProtocol, peer: need.key.peer, requestID: need.key.requestID
    ) { fits($0, need, policy) }
  }

  /// Whether an SA with the template's protocol and peer meets the rest of it.
  private func fits(_ entry: SAEntry, _ need: TemplateNeed, _ policy: PolicyEntry) -> Bool {
    // Fields one by one: a copy of all the parameters would count references for each of them.
    if need.key.requestID != 0, entry.requestID != need.key.requestID { return false }
    if let mode = need.mode, mode != entry.mode { return false }
    if let local = need.local, local != entry.source { return false }
    guard let sa = entry.unusual else {
      return policy.parameters.interfaceID == 0 && policy.parameters.sourceIdentity == nil
        && policy.parameters.destinationIdentity == nil
    }
    if sa.interfaceID != policy.parameters.interfaceID { return false }
    if let mark = sa.mark, (policy.parameters.mark.map { $0.value & $0.mask } ?? 0) & mark.mask != mark.value {
      return false
    }
    if let selector = sa.selector, !selector.covers(policy.parameters.selector) { return false }
    // An SA of a bundle whose other half is missing would leave off half of the protection.
    if sa.bundledWith != nil, bundles.next[entry.serial] == nil { return false }
    let identities = IdentityHash.hash(policy.parameters.sourceIdentity, policy.parameters.destinationIdentity)
    return identities == 0 || identities == entry.identityHash
  }

  // MARK: Bundles

  private func link(_ first: SAEntry, to second: SAEntry) {
    guard bundles.next[first.serial] != second.serial, let a = first.sa, let b = second.sa else { return }
    bundles.link(first.serial, to: second.serial)
    a.nextAtomic.pointee.store(b, ordering: .releasing)
  }

  /// Links an SA to the one that it names as the next, as soon as that is there.
  func joinBundle(_ entry: SAEntry) {
    guard let name = entry.bundledWith else { return }
    bundles.wait(entry.serial, for: name)
    guard let second = find(name), second !== entry, second.isUsable, second.isInbound == entry.isInbound else {
      return
    }
    link(entry, to: second)
  }

  /// Whether one comes to `target` by going from SA to SA.
  func leads(from entry: SAEntry, to target: SAEntry) -> Bool {
    var serial = entry.serial
    while let next = bundles.next[serial] {
      if next == target.serial { return true }
      serial = next
    }
    return serial == target.serial
  }

  func forgetBundle(of entry: SAEntry) {
    guard let name = entry.bundledWith else { return }
    bundles.stopWaiting(entry.serial, for: name)
  }

  /// A removed SA leaves its bundles: those before it are bundles no more and lose their policies. Returns them; their
  /// `gw_sa.next` still leads here.
  func leaveBundles(_ entry: SAEntry) -> Set<UInt32> {
    forgetBundle(of: entry)
    bundles.unlink(entry.serial)
    let firsts = bundles.firsts(of: entry.serial)
    for first in firsts {
      bundles.unlink(first)
      if let first = entries[first] { rebindPolicies(for: first) }
    }
    return firsts
  }
}

extension Selector {
  /// Whether every packet of `other` is one of this selector.
  func covers(_ other: Selector) -> Bool {
    source.contains(other.source) && destination.contains(other.destination)
      && (ipProtocol == nil || ipProtocol == other.ipProtocol)
      && sourcePorts.lowerBound <= other.sourcePorts.lowerBound
      && sourcePorts.upperBound >= other.sourcePorts.upperBound
      && destinationPorts.lowerBound <= other.destinationPorts.lowerBound
      && destinationPorts.upperBound >= other.destinationPorts.upperBound
  }
}
