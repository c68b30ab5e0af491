import CLayout
import Wire

/// Changing an SA that carries packets. The workers' records are immutable but for a few fields, so a changed SA is a
/// new record with the old one's keys, window and numbers, put into its place.
extension SecurityDatabase {
  /// More than the workers that still have the old record in hand can take from it: their bursts in flight.
  static var sequenceSkip: UInt64 { 65_536 }

  /// Lifetimes, encapsulation, selector and the like as `wanted` says; keys, end points, mode, request ID,
  /// direction and replay state stay, as in Linux.
  func change(_ entry: SAEntry, to wanted: SAParameters) throws(DatabaseError) {
    var parameters = wanted
    let old = entry.parameters
    parameters.transform = old.transform
    parameters.compression = old.compression
    parameters.mode = old.mode
    parameters.alignsAHTo64Bits = old.alignsAHTo64Bits
    parameters.replayWindow = old.replayWindow
    parameters.extendedSequenceNumbers = old.extendedSequenceNumbers
    parameters.sequence = old.sequence
    parameters.replayHighest = old.replayHighest
    parameters.direction = old.direction
    parameters.source = old.source
    parameters.requestID = old.requestID
    parameters.sourceIdentity = wanted.sourceIdentity ?? old.sourceIdentity
    parameters.destinationIdentity = wanted.destinationIdentity ?? old.destinationIdentity
    parameters.bundledWith = old.bundledWith
    try SAFactory.validate(parameters, permits)
    let users = policies(using: entry)
    entry.parameters = parameters
    let replaced = parameters.isSameForWorkers(as: old) ? nil : replaceRecord(of: entry, in: users)
    noteEncapsulation(of: entry, isThere: true)
    if entry.state == .dying { revive(entry) }
    reschedule(entry)
    rebindPolicies(for: entry)
    if let replaced { reclaimer.retire { [factory] in factory.deallocate(replaced, keepingWindow: true) } }
  }

  /// New limits may put a soft expiry off.
  private func revive(_ entry: SAEntry) {
    entry.state = .mature
    entry.sa?.statusAtomic.pointee.bitwiseAnd(~GW_SA_SOFT_REPORTED.rawValue, ordering: .relaxed)
  }

  /// Returns the old record, which is out of every table.
  private func replaceRecord(of entry: SAEntry, in users: [PolicyEntry]) -> UnsafeMutablePointer<gw_sa>? {
    guard let old = entry.sa else { return nil }
    let new = factory.make(for: entry)
    // From here on workers take nothing from the old record but what their bursts in flight take.
    let status = old.statusAtomic.pointee.bitwiseOr(GW_SA_STOPPED.rawValue, ordering: .acquiringAndReleasing).oldValue
    new.pointee.status = status & ~GW_SA_MAPPING_REPORTED.rawValue
    new.pointee.sequence = old.sequenceAtomic.pointee.load(ordering: .relaxed)
    if !entry.isInbound {
      new.pointee.sequence += Self.sequenceSkip
      SAFactory.setSequenceLimit(new, old.sequenceLimitAtomic.pointee.load(ordering: .relaxed))
    }
    new.pointee.replay = old.pointee.replay
    new.pointee.replay_mask = old.pointee.replay_mask
    new.pointee.replay_window = old.pointee.replay_window
    if entry.isInbound { new.pointee.replay_highest = old.replayHighestAtomic.pointee.load(ordering: .relaxed) }
    new.pointee.used_bytes = old.usedBytesAtomic.pointee.load(ordering: .relaxed)
    new.pointee.used_packets = old.usedPacketsAtomic.pointee.load(ordering: .relaxed)
    new.pointee.path_mtu = old.pathMTUAtomic.pointee.load(ordering: .relaxed)
    new.pointee.next = old.nextAtomic.pointee.load(ordering: .relaxed)
    entry.sa = new
    _ = sad.replace(old, by: new)
    for first in bundles.firsts(of: entry.serial) {
      entries[first]?.sa?.nextAtomic.pointee.store(new, ordering: .releasing)
    }
    for policy in users {
      for (chain, seen) in policy.bindings where chain.first == entry.serial { seen.storeSA(new) }
    }
    // What flow caches know of inbound SAs they know by serial, which stays.
    spd.touch()
    return old
  }

  /// The gateway's own addresses changed: SAs whose direction nobody told are made anew where it is another now.
  public func ownAddressesChanged() {
    for entry in Array(entries.values) where entry.parameters.direction == nil && entry.isUsable {
      guard isInbound(entry.parameters) != entry.isInbound else { continue }
      var parameters = entry.parameters
      if let sa = entry.sa {
        // Should it change back one day, no number is used or accepted again.
        parameters.sequence = sa.sequenceAtomic.pointee.load(ordering: .relaxed)
        if entry.isInbound {
          parameters.replayHighest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
        } else {
          parameters.sequence += Self.sequenceSkip
        }
      }
      let last = record(of: entry)
      remove(entry)
      guard let made = try? make(parameters, replacingLarval: nil) else {
        emit(.saDeleted(last))
        continue
      }
      install(made)
    }
  }
}

extension SAParameters {
  /// The same but for what only the control thread goes by.
  func isSameForWorkers(as other: SAParameters) -> Bool {
    source == other.source && encapsulation == other.encapsulation && soft.bytes == other.soft.bytes
      && soft.packets == other.soft.packets && hard.bytes == other.hard.bytes && hard.packets == other.hard.packets
      && requestID == other.requestID && interfaceID == other.interfaceID && selector == other.selector
      && sourceIdentity == other.sourceIdentity && destinationIdentity == other.destinationIdentity && df == other.df
      && ecn == other.ecn && dscp == other.dscp && tfcPadding == other.tfcPadding
  }

  /// Equal in everything that is asked for, keys compared in constant time.
  public func isSame(as other: SAParameters) -> Bool {
    identifier == other.identifier && mode == other.mode && isSameForWorkers(as: other)
      && transform.encryption == other.transform.encryption
      && transform.authentication == other.transform.authentication
      && transform.encryptionKey == other.transform.encryptionKey
      && transform.authenticationKey == other.transform.authenticationKey && compression == other.compression
      && replayWindow == other.replayWindow && extendedSequenceNumbers == other.extendedSequenceNumbers
      && soft == other.soft && hard == other.hard && direction == other.direction && mark == other.mark
      && alignsAHTo64Bits == other.alignsAHTo64Bits && owner == other.owner
      && bundledWith == other.bundledWith
  }
}
