import Engines
import Wire

/// A set of changes that stand or fall together: what loading `ipsec.conf` asks for.
public struct ConfigurationChange: Sendable {
  public struct Bundle: Sendable, Hashable {
    /// Applied first: the inner one.
    public var first: SAIdentifier
    public var then: SAIdentifier
    public init(first: SAIdentifier, then: SAIdentifier) {
      self.first = first
      self.then = then
    }
  }

  public struct PolicyName: Sendable, Hashable {
    public var direction: PolicyDirection
    public var selector: Selector
    public init(direction: PolicyDirection, selector: Selector) {
      self.direction = direction
      self.selector = selector
    }
  }

  public enum Part: Sendable, Hashable {
    case sa(SAIdentifier)
    case policy(PolicyName)
  }

  /// Taken out before anything is added; those that do not stand are an error.
  public var removedSAs: [SAIdentifier] = []
  public var removedPolicies: [PolicyName] = []
  public var addedSAs: [SAParameters] = []
  /// One that stands under the same name is replaced, as OpenBSD's ADDFLOW does.
  public var addedPolicies: [PolicyParameters] = []
  public init() {}

  public var isEmpty: Bool {
    removedSAs.isEmpty && removedPolicies.isEmpty && addedSAs.isEmpty && addedPolicies.isEmpty
  }

  /// Adds SAs, policies and bundles to what stands (`ipsecctl -f`). Both SAs of a bundle are among `sas`, or `then`
  /// stands.
  public init(adding sas: [SAParameters], policies: [PolicyParameters], bundles: [Bundle] = []) {
    addedSAs = Self.bundled(sas, bundles)
    addedPolicies = policies
  }

  static func bundled(_ sas: [SAParameters], _ bundles: [Bundle]) -> [SAParameters] {
    let then = Dictionary(bundles.map { ($0.first, $0.then) }, uniquingKeysWith: { $1 })
    return sas.map {
      var sa = $0
      sa.bundledWith = then[sa.identifier] ?? sa.bundledWith
      return sa
    }
  }
}

extension SecurityDatabase {
  /// What makes everything owned by `.configuration` what is given here. SAs and policies that stand as they are asked
  /// for are not in it: they keep sequence numbers, replay state and counters.
  public func change(
    toConfiguration sas: [SAParameters], policies: [PolicyParameters], bundles: [ConfigurationChange.Bundle] = []
  ) -> ConfigurationChange {
    var change = ConfigurationChange()
    let wanted = ConfigurationChange.bundled(sas, bundles)
    let names = Set(wanted.map(\.identifier))
    for entry in entries.values where entry.owner == .configuration {
      if !names.contains(entry.identifier) { change.removedSAs.append(entry.identifier) }
    }
    for sa in wanted {
      if let standing = find(sa.identifier), standing.owner == .configuration {
        if standing.parameters.isSame(as: sa) { continue }
        change.removedSAs.append(sa.identifier)
      }
      change.addedSAs.append(sa)
    }
    addPolicyDifference(to: &change, policies)
    return change
  }

  private func addPolicyDifference(to change: inout ConfigurationChange, _ wanted: [PolicyParameters]) {
    let names = Set(wanted.map { ConfigurationChange.PolicyName(direction: $0.direction, selector: $0.selector) })
    for entry in policyEntries.values where entry.parameters.owner == .configuration {
      let name = ConfigurationChange.PolicyName(
        direction: entry.parameters.direction, selector: entry.parameters.selector)
      if !names.contains(name) { change.removedPolicies.append(name) }
    }
    for policy in wanted {
      let key = PolicyKey(
        direction: policy.direction, selector: policy.selector, mark: policy.mark, interfaceID: policy.interfaceID)
      if let index = policyIndices[key], policyEntries[index]?.parameters == policy { continue }
      change.addedPolicies.append(policy)
    }
  }

  /// All of the change, or, with an error, none of it.
  public func apply(_ change: ConfigurationChange, origin: UInt64) throws(DatabaseError) {
    try checkPolicies(of: change)
    let prepared = try prepareSAs(of: change)
    do throws(DatabaseError) { try reserveNumbers(for: change.addedSAs) } catch {
      for entry in prepared { discard(entry) }
      throw error
    }
    // Nothing fails from here on.
    let names = Set(prepared.map(\.identifier))
    let first = Set(change.removedSAs.filter { names.contains($0) }).union(holders(of: prepared))
      .union(prepared.compactMap(placeHolder))
    spd.batch {
      // Make before break, but where the new SA takes the name, the nonces or the place in the SAD of the old one.
      for id in change.removedSAs where first.contains(id) { try? delete(id, origin: origin) }
      for entry in prepared {
        if let larval = find(entry.identifier), larval.state == .larval { remove(larval: larval) }
        install(entry)
        emit(.saAdded(record(of: entry)), origin: origin)
      }
      for id in change.removedSAs where !first.contains(id) { try? delete(id, origin: origin) }
      for policy in change.addedPolicies { _ = try? add(policy, replacing: true, origin: origin) }
      for name in change.removedPolicies {
        try? deletePolicy(
          direction: name.direction, selector: name.selector, mark: nil, interfaceID: 0, origin: origin)
      }
    }
  }

  /// IP in IP is looked up by its ends, so of two SAs with the same ends one is there.
  private func placeHolder(of entry: SAEntry) -> SAIdentifier? {
    entry.saProtocol == .ipip && entry.isInbound ? standingIPIP(entry.parameters)?.identifier : nil
  }

  /// Throws what `apply` would; changes nothing.
  public func check(_ change: ConfigurationChange) throws(DatabaseError) {
    try checkPolicies(of: change)
    for entry in try prepareSAs(of: change) { discard(entry) }
  }

  private func checkPolicies(of change: ConfigurationChange) throws(DatabaseError) {
    var removed = 0
    for name in change.removedPolicies {
      let key = PolicyKey(direction: name.direction, selector: name.selector, mark: nil, interfaceID: 0)
      culprit = .policy(name)
      guard policyIndices[key] != nil else {
        throw .notFound("the policy from \(name.selector.source) to \(name.selector.destination)")
      }
      removed += 1
    }
    var fresh: Set<PolicyKey> = []
    for policy in change.addedPolicies {
      culprit = .policy(.init(direction: policy.direction, selector: policy.selector))
      try PolicyFactory.validate(policy)
      let key = PolicyKey(
        direction: policy.direction, selector: policy.selector, mark: policy.mark, interfaceID: policy.interfaceID)
      if policyIndices[key] == nil { fresh.insert(key) }
    }
    culprit = nil
    // New ones come before old ones go, so that traffic never finds neither.
    guard policyEntries.count + fresh.count <= limits.policies else {
      throw .full("the limit of \(limits.policies) policies is reached")
    }
  }

  private func prepareSAs(of change: ConfigurationChange) throws(DatabaseError) -> [SAEntry] {
    let removed = Set(change.removedSAs)
    for id in change.removedSAs {
      culprit = .sa(id)
      guard let entry = find(id), entry.state != .larval else { throw .notFound("SA \(id)") }
    }
    var names: Set<SAIdentifier> = []
    var keys: [Fingerprint: SAIdentifier] = [:]
    var prepared: [SAEntry] = []
    do throws(DatabaseError) {
      for sa in change.addedSAs {
        culprit = nil
        guard entries.count - removed.count + prepared.count < limits.sas else {
          throw .full("the limit of \(limits.sas) SAs is reached")
        }
        culprit = .sa(sa.identifier)
        guard names.insert(sa.identifier).inserted else { throw .exists("SA \(sa.identifier)") }
        if let standing = find(sa.identifier), standing.state != .larval, !removed.contains(sa.identifier) {
          throw .exists("SA \(sa.identifier)")
        }
        let made = try prepare(sa, replacingLarval: nil, beside: removed)
        prepared.append(made)
        if !made.isInbound, let name = nonceName(sa),
          let other = keys.updateValue(sa.identifier, forKey: name.fingerprint)
        {
          throw .keyInUse(by: other.description)
        }
      }
    } catch {
      for entry in prepared { discard(entry) }
      throw error
    }
    culprit = nil
    return prepared
  }
}
