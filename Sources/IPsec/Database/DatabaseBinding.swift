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
    let any = policiesByNeed[TunnelBinding(entry, requestID: 0)]
    let own = entry.requestID == 0 ? nil : policiesByNeed[TunnelBinding(entry, requestID: entry.requestID)]
    guard let any else { return own.map { Array($0.values) } ?? [] }
    return Array(any.values) + (own.map { Array($0.values) } ?? [])
  }

  func policies(using entry: SAEntry) -> [PolicyEntry] {
    policies(near: entry).filter { $0.uses(entry) }
  }

  /// After an SA changed.
  func rebindPolicies(for entry: SAEntry) {
    guard !entry.isInbound else { return }
    for policy in policies(near: entry) { rebind(policy) }
  }

  /// After an SA went or is dying: the policies that do without it are as they were.
  func rebindPolicies(using entry: SAEntry) {
    guard !entry.isInbound else { return }
    for policy in policies(using: entry) {
      guard let needs = policy.needs else { continue }
      if needs.count > 1 || policy.chain.contains(entry.serial) {
        rebind(policy)
      } else {
        let candidates = candidates(policy, needs)
        for selector in policy.parts(using: entry) { rebind(selector, of: policy, candidates) }
      }
    }
  }

  /// After an SA came, which is the newest now: where one template is all there is, it is the best for all that it fits.
  /// Thousands of policies may share a peer and ask for no request ID, so this does not search.
  func bindPolicies(to entry: SAEntry) {
    guard !entry.isInbound else { return }
    for policy in policies(near: entry) {
      guard let needs = policy.needs, needs.count == 1 else {
        rebind(policy)
        continue
      }
      if needs[0].spi != 0, needs[0].spi != entry.identifier.spi { continue }
      if fits(entry, needs[0], policy) { use(newest: entry, policy) }
    }
  }

  private func use(newest entry: SAEntry, _ policy: PolicyEntry) {
    guard let carried = entry.carried(of: policy.parameters.selector) else { return }
    if carried == policy.parameters.selector {
      bind(policy, to: [entry])
      for selector in policy.parts.keys { removePart(selector, of: policy) }
    } else if policy.parameters.selectsPackets {
      for selector in policy.parts.keys where carried.covers(selector) { setPart(selector, of: policy, to: [entry]) }
      setPart(carried, of: policy, to: [entry])
    }
    policyHasSA(policy)
  }

  /// Finds the SAs of an outbound policy anew and publishes them.
  func rebind(_ policy: PolicyEntry) {
    guard let needs = policy.needs else { return }
    let candidates = candidates(policy, needs)
    bind(policy, to: chain(candidates, needs, for: policy.parameters.selector))
    if policy.parameters.selectsPackets {
      var selectors = Set(policy.parts.keys)
      for entry in candidates.joined() {
        if let carried = entry.carried(of: policy.parameters.selector), carried != policy.parameters.selector {
          selectors.insert(carried)
        }
      }
      for selector in selectors { rebind(selector, of: policy, candidates) }
    }
    if policy.hasSA { policyHasSA(policy) }
  }

  /// A part that some SA carries and that has better SAs than the policy, or none of its own any more.
  private func rebind(_ selector: Selector, of policy: PolicyEntry, _ candidates: [[SAEntry]]) {
    guard let needs = policy.needs else { return }
    let isCarried = candidates.joined().contains { $0.carried(of: policy.parameters.selector) == selector }
    let chain = isCarried ? chain(candidates, needs, for: selector) : []
    if chain.isEmpty || chain.map(\.serial) == policy.chain {
      removePart(selector, of: policy)
    } else {
      setPart(selector, of: policy, to: chain)
    }
  }

  // MARK: Which SAs

  /// For each need the SAs that meet it, whatever they may carry; the best first.
  private func candidates(_ policy: PolicyEntry, _ needs: [TemplateNeed]) -> [[SAEntry]] {
    needs.map { need in
      guard need.spi == 0 else {
        let id = SAIdentifier(spi: need.spi, destination: need.key.peer, saProtocol: need.key.saProtocol)
        guard let entry = find(id), entry.isUsable, !entry.isInbound, fits(entry, need, policy) else { return [] }
        return [entry]
      }
      let selector = policy.parameters.selector
      return bindings.usable(
        saProtocol: need.key.saProtocol, peer: need.key.peer, requestID: need.key.requestID,
        where: { fits($0, need, policy) }, until: { $0.carried(of: selector) == selector })
    }
  }

  /// The best SA of each need that carries all that is selected; empty if one has to be done without.
  private func chain(_ candidates: [[SAEntry]], _ needs: [TemplateNeed], for selector: Selector) -> [SAEntry] {
    var chain: [SAEntry] = []
    for (need, entries) in zip(needs, candidates) {
      if let entry = entries.first(where: { $0.carried(of: selector) == selector }) {
        chain.append(entry)
      } else if !need.isOptional {
        return []
      }
    }
    return chain
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
    // An SA of a bundle whose other half is missing would leave off half of the protection.
    if sa.bundledWith != nil, bundles.next[entry.serial] == nil { return false }
    let identities = IdentityHash.hash(policy.parameters.sourceIdentity, policy.parameters.destinationIdentity)
    return identities == 0 || identities == entry.identityHash
  }

  // MARK: Policies and their parts

  private func bind(_ policy: PolicyEntry, to chain: [SAEntry]) {
    policy.chain = publish(chain, in: policy.policy)
  }

  /// Returns the serials.
  private func publish(_ chain: [SAEntry], in policy: UnsafeMutablePointer<gw_policy>) -> [UInt32] {
    // The innermost template's SA leads to the others. Links go before what leads to them.
    for position in chain.indices.dropLast().reversed() { link(chain[position], to: chain[position + 1]) }
    // Workers read this line with every packet: it is written only when it changes.
    let first = chain.first?.sa
    if policy.loadSA() != first { policy.storeSA(first) }
    return chain.map(\.serial)
  }

  private func setPart(_ selector: Selector, of policy: PolicyEntry, to chain: [SAEntry]) {
    if let part = policy.parts[selector] {
      let serials = publish(chain, in: part.policy)
      policy.parts[selector]?.chain = serials
      return
    }
    let made = policyFactory.make(part: selector, of: policy)
    policy.parts[selector] = PolicyPart(policy: made, chain: publish(chain, in: made))
    spd.insert(made)
  }

  private func removePart(_ selector: Selector, of policy: PolicyEntry) {
    guard let part = policy.parts.removeValue(forKey: selector) else { return }
    withdraw(part)
  }

  /// Its packets are the whole policy's again.
  func withdraw(_ part: PolicyPart) {
    // Flow caches may lead here for a while, longer than the SA stays.
    part.policy.storeSA(nil)
    _ = spd.remove(part.policy) { [policyFactory] in policyFactory.deallocate(part.policy) }
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
