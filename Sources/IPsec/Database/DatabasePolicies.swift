import CLayout
import Wire

extension SecurityDatabase {
  // MARK: SecurityStore

  public func add(_ policy: PolicyParameters, replacing: Bool, origin: UInt64) throws(DatabaseError) -> UInt32 {
    try PolicyFactory.validate(policy)
    let key = PolicyKey(
      direction: policy.direction, selector: policy.selector, mark: policy.mark, interfaceID: policy.interfaceID)
    if let index = policyIndices[key], let standing = policyEntries[index] {
      guard replacing else { throw .exists("the policy") }
      replace(standing, by: policy)
      emit(.policyUpdated(record(of: standing)), origin: origin)
      return index
    }
    let entry = try install(policy, key: key)
    emit(.policyAdded(record(of: entry)), origin: origin)
    return entry.index
  }

  public func deletePolicy(index: UInt32, origin: UInt64) throws(DatabaseError) {
    guard let entry = policyEntries[index] else { throw .notFound("policy \(index)") }
    let last = isHeard ? record(of: entry) : nil
    remove(entry)
    if let last { emit(.policyDeleted(last), origin: origin) }
  }

  public func deletePolicy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32, origin: UInt64
  ) throws(DatabaseError) {
    let key = PolicyKey(direction: direction, selector: selector, mark: mark, interfaceID: interfaceID)
    guard let index = policyIndices[key] else { throw .notFound("the policy") }
    try deletePolicy(index: index, origin: origin)
  }

  public func flushPolicies(owner: Owner?, origin: UInt64) {
    let doomed = policyEntries.values.filter { owner == nil || $0.parameters.owner == owner }
      .sorted { $0.order < $1.order }
    guard !doomed.isEmpty else { return }
    spd.batch {
      for entry in doomed {
        if owner == nil { remove(entry) } else { try? deletePolicy(index: entry.index, origin: origin) }
      }
    }
    if owner == nil { emit(.policiesFlushed, origin: origin) }
  }

  public func policy(index: UInt32) -> PolicyRecord? { policyEntries[index].map(record(of:)) }

  public func policy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32
  ) -> PolicyRecord? {
    let key = PolicyKey(direction: direction, selector: selector, mark: mark, interfaceID: interfaceID)
    return policyIndices[key].flatMap(policy(index:))
  }

  public func policies() -> [PolicyRecord] {
    policyEntries.values.sorted { $0.order < $1.order }.map(record(of:))
  }

  public func policyCount() -> Int { policyEntries.count }

  // MARK: Inside

  func install(_ parameters: PolicyParameters, key: PolicyKey) throws(DatabaseError) -> PolicyEntry {
    guard policyEntries.count < limits.policies else {
      throw .full("the limit of \(limits.policies) policies is reached")
    }
    guard let slot = slots.allocate() else {
      throw .full("no counter slot is free until deleted policies are reclaimed")
    }
    let index = nextPolicyIndex(parameters.direction)
    let order = nextOrder()
    let policy = policyFactory.make(parameters, index: index, order: order, slot: slot)
    let entry = PolicyEntry(
      parameters: parameters, index: index, order: order, slot: slot, policy: policy, added: now)
    policy.pointee.control = UInt64(UInt(bitPattern: Unmanaged.passUnretained(entry).toOpaque()))
    policyEntries[index] = entry
    policyIndices[key] = index
    noteNeeds(of: entry)
    spd.batch {
      rebind(entry)
      if parameters.selectsPackets { spd.insert(policy) }
    }
    return entry
  }

  func replace(_ entry: PolicyEntry, by parameters: PolicyParameters) {
    let isSameForWorkers = entry.parameters.isSameForWorkers(as: parameters)
    forgetNeeds(of: entry)
    entry.parameters = parameters
    entry.needs = TemplateNeed.needs(of: parameters)
    noteNeeds(of: entry)
    guard !isSameForWorkers else {
      rebind(entry)
      return
    }
    let old = entry.policy
    entry.policy = policyFactory.make(parameters, index: entry.index, order: entry.order, slot: entry.slot)
    entry.policy.pointee.control = old.pointee.control
    forgetAcquires(of: entry)
    let parts = entry.parts
    entry.parts = [:]
    // There is no moment without the one or the other.
    spd.batch {
      rebind(entry)
      if parameters.selectsPackets { spd.insert(entry.policy) }
      for old in parts.values.map(\.policy) + [old] {
        withdraw(old) { [policyFactory] in policyFactory.deallocate(old) }
      }
    }
  }

  func remove(_ entry: PolicyEntry) {
    policyEntries[entry.index] = nil
    policyIndices[entry.key] = nil
    forgetNeeds(of: entry)
    forgetAcquires(of: entry)
    let (policy, slot) = (entry.policy, entry.slot)
    spd.batch {
      for part in entry.parts.values { withdraw(part) }
      entry.parts = [:]
      withdraw(policy) { [self] in
        policyFactory.deallocate(policy)
        counterSource.reset(slot: slot)
        slots.release(slot)
      }
    }
  }

  /// `free` runs when no worker can hold it, at once for what none can find.
  private func withdraw(_ policy: UnsafeMutablePointer<gw_policy>, free: @escaping () -> Void) {
    if !spd.remove(policy, free: free) { free() }
  }
}
