import CLayout
import Engines
import Wire

extension SecurityDatabase {
  // MARK: SecurityStore

  public func add(_ sa: SAParameters, origin: UInt64) throws(DatabaseError) {
    let standing = find(sa.identifier)
    if let standing, standing.state != .larval { throw .exists("SA \(sa.identifier)") }
    let made = try make(sa, replacingLarval: standing)
    if let standing { remove(larval: standing) }
    install(made)
    emit(.saAdded(record(of: made)), origin: origin)
  }

  public func update(_ sa: SAParameters, origin: UInt64) throws(DatabaseError) {
    guard let standing = find(sa.identifier) else { throw .notFound("SA \(sa.identifier)") }
    if standing.state == .larval {
      let made = try make(sa, replacingLarval: standing)
      remove(larval: standing)
      install(made)
      emit(.saUpdated(record(of: made)), origin: origin)
    } else {
      try change(standing, to: sa)
      emit(.saUpdated(record(of: standing)), origin: origin)
    }
  }

  public func allocateSPI(
    _ template: SAParameters, in range: ClosedRange<UInt32>, origin: UInt64
  ) throws(DatabaseError) -> UInt32 {
    guard template.source.family == template.destination.family else {
      throw .invalid("source \(template.source) and destination \(template.destination) differ in family")
    }
    guard larvalCount < limits.larvalSAs else { throw .full("the limit of \(limits.larvalSAs) larval SAs is reached") }
    guard entries.count < limits.sas else { throw .full("the limit of \(limits.sas) SAs is reached") }
    var parameters = template
    parameters.spi = try freeSPI(in: range, for: template)
    let entry = SAEntry(
      parameters: parameters, state: .larval, serial: nextSerial(), order: nextOrder(), now: now,
      isInbound: true)
    entries[entry.serial] = entry
    named[entry.identifier] = entry
    larvalCount += 1
    wheel.schedule(entry, at: now + Self.larvalLifetime)
    onLarval?(parameters, true)
    return parameters.spi
  }

  public func delete(_ id: SAIdentifier, origin: UInt64) throws(DatabaseError) {
    guard let entry = find(id) else { throw .notFound("SA \(id)") }
    let last = isHeard ? record(of: entry) : nil
    if entry.state == .larval { remove(larval: entry) } else { remove(entry) }
    if var last {
      last.state = .dead
      emit(.saDeleted(last), origin: origin)
    }
  }

  public func flushSAs(_ saProtocol: SAProtocol?, owner: Owner?, origin: UInt64) {
    let doomed = entries.values.filter {
      (saProtocol == nil || $0.saProtocol == saProtocol) && (owner == nil || $0.owner == owner)
    }
    guard !doomed.isEmpty else { return }
    for entry in doomed.sorted(by: { $0.order < $1.order }) {
      // Nobody may be told of single SAs where one word tells all.
      guard owner != nil else {
        if entry.state == .larval { remove(larval: entry) } else { remove(entry) }
        continue
      }
      try? delete(entry.identifier, origin: origin)
    }
    if owner == nil { emit(.sasFlushed(saProtocol), origin: origin) }
  }

  public func saCount() -> Int { entries.count }

  /// How many SAs are keyed for each kind of transform: those that seal and those that open.
  public func keyedSAs() -> [TransformKind: (seal: Int, open: Int)] {
    var counts: [TransformKind: (seal: Int, open: Int)] = [:]
    for entry in entries.values where entry.sa != nil {
      guard let transform = SAFactory.keyed(entry.parameters) else { continue }
      let kind = TransformKind(transform)
      if entry.isInbound { counts[kind, default: (0, 0)].open += 1 } else { counts[kind, default: (0, 0)].seal += 1 }
    }
    return counts
  }

  public func bundle(
    _ first: SAIdentifier, with then: SAIdentifier, origin: UInt64
  ) throws(DatabaseError) {
    guard let a = find(first), a.isUsable else { throw .notFound("SA \(first)") }
    guard let b = find(then), b.isUsable else { throw .notFound("SA \(then)") }
    guard a !== b, a.isInbound == b.isInbound else { throw .invalid("\(first) and \(then) cannot be bundled") }
    guard !leads(from: b, to: a) else { throw .invalid("the bundle of \(first) and \(then) would be a circle") }
    forgetBundle(of: a)
    a.parameters.bundledWith = then
    joinBundle(a)
    rebindPolicies(for: a)
    emit(.saUpdated(record(of: a)), origin: origin)
  }

  public func setSequence(
    _ id: SAIdentifier, sequence: UInt64, replayHighest: UInt64
  ) throws(DatabaseError) {
    guard let entry = find(id), let sa = entry.sa else { throw .notFound("SA \(id)") }
    try SAFactory.validate(sequence: sequence)
    // Forward only: a number that was given out is never given out again, one that was seen never accepted again.
    if entry.isInbound {
      ReplayWindow.advance(sa, to: replayHighest)
    } else {
      let field = sa.sequenceAtomic
      ReplayWindow.raise(field, to: sequence, from: field.pointee.load(ordering: .relaxed))
      reserveNumbers(of: [entry.serial])
    }
  }

  // MARK: Inside

  /// RFC 2367: a larval SA that nobody completes.
  public static var larvalLifetime: UInt64 { 30 }

  func find(_ id: SAIdentifier) -> SAEntry? {
    if let sa = sad.lookup(spi: id.spi, destination: id.destination, saProtocol: id.saProtocol.rawValue),
      id.saProtocol != .ipip
    {
      return SAEntry.of(sa)
    }
    return named.isEmpty ? nil : named[id]
  }

  func standingIPIP(_ parameters: SAParameters) -> SAEntry? {
    sad.lookup(
      spi: UInt32(bigEndian: SAFactory.wireSPI(parameters)), destination: parameters.destination,
      saProtocol: SAProtocol.ipip.rawValue
    ).map(SAEntry.of).flatMap { $0.saProtocol == .ipip ? $0 : nil }
  }

  /// Whichever way it comes: what protects less than it seems to is refused, or told of.
  private func checkStrength(_ parameters: SAParameters) throws(DatabaseError) {
    guard parameters.saProtocol == .esp || parameters.saProtocol == .ah, let weakness = parameters.transform.weakness
    else { return }
    guard permits.weakAlgorithms else {
      throw .unsupported("\(parameters.identifier): \(weakness); `allow-weak: true` in gateway.yaml permits it")
    }
    onWeak?(parameters.identifier, weakness)
  }

  func isInbound(_ parameters: SAParameters) -> Bool {
    switch parameters.direction {
    case .out: false
    case .in, .forward: true
    case nil: isOwnAddress(parameters.destination)
    }
  }

  /// An SA that only has to be published.
  func make(_ parameters: SAParameters, replacingLarval larval: SAEntry?) throws(DatabaseError) -> SAEntry {
    let made = try prepare(parameters, replacingLarval: larval)
    do throws(DatabaseError) { try reserveNumbers(for: [parameters]) } catch {
      discard(made)
      throw error
    }
    return made
  }

  /// An SA with everything that can fail done but for its numbers; nothing is published. `discard` undoes it.
  /// The caller has seen to the limit where `removed` are SAs that go first.
  func prepare(
    _ parameters: SAParameters, replacingLarval larval: SAEntry?, beside removed: Set<SAIdentifier>? = nil
  ) throws(DatabaseError) -> SAEntry {
    try SAFactory.validate(parameters, permits)
    try checkStrength(parameters)
    guard removed != nil || entries.count < limits.sas || larval != nil else {
      throw .full("the limit of \(limits.sas) SAs is reached")
    }
    let isInbound = isInbound(parameters)
    if parameters.saProtocol == .ipip, isInbound, let other = standingIPIP(parameters),
      removed?.contains(other.identifier) != true
    {
      throw .exists("an ipip SA from \(parameters.source) to \(parameters.destination)")
    }
    try checkNumbers(parameters, isInbound: isInbound, beside: removed ?? [])
    guard let slot = slots.allocate() else { throw .full("no counter slot is free until deleted SAs are reclaimed") }
    let entry = SAEntry(
      parameters: parameters, state: .mature, serial: nextSerial(), order: nextOrder(), now: now,
      isInbound: isInbound)
    entry.slot = slot
    do throws(DatabaseError) {
      try makeFirstSchedule(of: entry, parameters)
    } catch {
      slots.release(slot)
      throw error
    }
    let sa = factory.make(for: entry)
    factory.initialiseState(sa, parameters, isInbound: isInbound)
    entry.sa = sa
    return entry
  }

  /// Undoes `prepare`.
  func discard(_ entry: SAEntry) {
    destroySchedule(of: entry)
    if let sa = entry.sa { factory.deallocate(sa) }
    slots.release(entry.slot)
  }

  /// Publishes what `prepare` made, binds it and sets its timer.
  func install(_ entry: SAEntry) {
    guard let sa = entry.sa else { return }
    entries[entry.serial] = entry
    takeNumbers(entry, sa)
    noteSchedule(of: entry)
    if entry.saProtocol == .ipip { named[entry.identifier] = entry }
    // Outbound IPIP is never looked up by packets.
    if entry.saProtocol != .ipip || entry.isInbound { _ = sad.insert(sa) }
    noteEncapsulation(of: entry, isThere: true)
    joinBundle(entry)
    if entry.isInbound {
      inboundBindings.insert(entry)
    } else {
      bindings.insert(entry)
      bindPolicies(to: entry)
    }
    for first in bundles.waiters(for: entry.identifier) {
      guard let first = entries[first], first !== entry, !leads(from: entry, to: first) else { continue }
      joinBundle(first)
      rebindPolicies(for: first)
    }
    reschedule(entry)
    sweep.append(entry.serial)
    answerAcquires(with: entry)
  }

  /// Stops an SA for good, at once, and frees it when no worker can hold it. Its policies get another or none.
  func remove(_ entry: SAEntry) {
    guard let sa = entry.sa else { return }
    entry.state = .dead
    sa.statusAtomic.pointee.bitwiseOr(GW_SA_STOPPED.rawValue, ordering: .releasing)
    releaseNumbers(entry, sa)
    wheel.cancel(entry)
    entries[entry.serial] = nil
    noteEncapsulation(of: entry, isThere: false)
    if entry.saProtocol == .ipip { named[entry.identifier] = nil }
    if entry.isInbound {
      inboundBindings.remove(entry)
    } else {
      bindings.remove(entry)
      rebindPolicies(using: entry)
    }
    let firsts = leaveBundles(entry)
    let free = { [self] in release(entry, before: firsts) }
    if !sad.remove(sa, free: free) { reclaimer.retire(free) }
  }

  func remove(larval entry: SAEntry) {
    wheel.cancel(entry)
    entries[entry.serial] = nil
    named[entry.identifier] = nil
    larvalCount -= 1
    onLarval?(entry.parameters, false)
  }

  /// No worker uses the SA as it is bound; one may still come to it from an SA that was bundled with it.
  private func release(_ entry: SAEntry, before firsts: Set<UInt32>) {
    let linked = firsts.compactMap { entries[$0]?.sa }.filter { $0.pointee.next == entry.sa }
    guard !linked.isEmpty else {
      destroy(entry)
      return
    }
    for first in linked { first.nextAtomic.pointee.store(nil, ordering: .releasing) }
    reclaimer.retire { [self] in destroy(entry) }
  }

  private func destroy(_ entry: SAEntry) {
    destroySchedule(of: entry)
    if let sa = entry.sa { factory.deallocate(sa) }
    entry.sa = nil
    counterSource.reset(slot: entry.slot)
    slots.release(entry.slot)
  }

  private func freeSPI(in range: ClosedRange<UInt32>, for template: SAParameters) throws(DatabaseError) -> UInt32 {
    // 1 to 255 are reserved, as SPIs (RFC 4303 2.1) and as CPIs (RFC 3173 3.3: well-known ones).
    let isCPI = template.saProtocol == .ipcomp
    let floor: UInt32 = permits.lowSPIs && !isCPI ? 1 : 256
    let (low, high) = (max(range.lowerBound, floor), min(range.upperBound, isCPI ? 0xffff : .max))
    guard low <= high else { throw .invalid("no SPI from \(range.lowerBound) to \(range.upperBound) may be used") }
    func isFree(_ spi: UInt32) -> Bool {
      find(SAIdentifier(spi: spi, destination: template.destination, saProtocol: template.saProtocol)) == nil
    }
    for _ in 0..<64 {
      let spi = UInt32.random(in: low...high)
      if isFree(spi) { return spi }
    }
    // A narrow or crowded range: from a random point on, once around, within reason.
    let width = UInt64(high - low) + 1
    let start = UInt64.random(in: 0..<width)
    for step in 0..<min(width, 65_536) {
      let spi = low + UInt32((start + step) % width)
      if isFree(spi) { return spi }
    }
    throw .full(low == high ? "SPI \(low) is in use" : "no SPI from \(low) to \(high) is free")
  }
}
