import CLayout
import Wire

/// What the key daemons and the operator are shown: copies, with the workers' counters summed.
extension SecurityDatabase {
  public func record(_ id: SAIdentifier) -> SARecord? { find(id).map(record(of:)) }

  public func records() -> [SARecord] {
    entries.values.sorted {
      ($0.identifier.spi, $0.destination) < ($1.identifier.spi, $1.destination)
    }.map(record(of:))
  }

  /// Mature outbound ESP tunnels, in no order.
  public func outboundTunnels(atMost limit: Int) -> [SAIdentifier] {
    let tunnels = entries.values.lazy.filter {
      $0.saProtocol == .esp && $0.mode == .tunnel && $0.state == .mature && !$0.isInbound
    }
    return tunnels.prefix(limit).map(\.identifier)
  }

  func record(of entry: SAEntry) -> SARecord {
    var record = SARecord(parameters: entry.parameters, state: entry.state)
    record.usage.added = wall(entry.added)
    guard let sa = entry.sa else { return record }
    let counted = counterSource.counters(slot: entry.slot)
    noteFirstUse(of: entry, counted)
    record.usage.packets = counted.packets
    record.usage.bytes = counted.bytes
    record.usage.firstUsed = wall(entry.firstUsed)
    record.usage.lastUsed = wall(UInt64(counted.last_used))
    record.isInbound = entry.isInbound
    if entry.isInbound {
      record.counters.inputPackets = counted.packets
      record.counters.inputBytes = counted.bytes
      record.counters.inputDrops = UInt64(counted.drops)
      (record.sequence, record.replayBitmap) = ReplayWindow.bitmap(sa)
    } else {
      record.counters.outputPackets = counted.packets
      record.counters.outputBytes = counted.bytes
      record.counters.outputDrops = UInt64(counted.drops)
      record.sequence = sa.sequenceAtomic.pointee.load(ordering: .relaxed)
    }
    if entry.saProtocol == .ipcomp {
      // Of IPComp's packets, what they are without it is counted.
      record.counters.decompressedBytes = record.counters.inputBytes
      record.counters.uncompressedBytes = record.counters.outputBytes
    }
    record.counters.replayed = UInt64(counted.replayed)
    record.counters.integrityFailures = UInt64(counted.integrity_failures)
    record.mtu = Self.innerMTU(sa)
    return record
  }

  func record(of entry: PolicyEntry) -> PolicyRecord {
    var record = PolicyRecord(index: entry.index, parameters: entry.parameters)
    var counted = counterSource.counters(slot: entry.slot)
    // Packets meet one of a policy and its twin in the other of the directions `in` and `forward`: count for both.
    if let twin = twin(of: entry) {
      let other = counterSource.counters(slot: twin.slot)
      counted.packets &+= other.packets
      counted.bytes &+= other.bytes
      counted.last_used = max(counted.last_used, other.last_used)
    }
    if entry.firstUsed == 0, counted.packets > 0 { entry.firstUsed = UInt64(counted.last_used) }
    record.usage.packets = counted.packets
    record.usage.bytes = counted.bytes
    record.usage.added = wall(entry.added)
    record.usage.firstUsed = wall(entry.firstUsed)
    record.usage.lastUsed = wall(UInt64(counted.last_used))
    return record
  }

  private func twin(of entry: PolicyEntry) -> PolicyEntry? {
    guard entry.parameters.direction != .out else { return nil }
    var key = entry.key
    key.direction = key.direction == .in ? .forward : .in
    return policyIndices[key].flatMap { policyEntries[$0] }
  }

  /// What fits into the path's MTU, where that is known.
  private static func innerMTU(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt32 {
    let path = sa.pathMTUAtomic.pointee.load(ordering: .relaxed)
    let overhead = UInt32(sa.pointee.overhead)
    return path > overhead ? path - overhead : 0
  }
}
