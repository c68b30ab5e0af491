import CLayout

/// The source and destination prefixes that the policies of one view use, as the search for possible tuples reads them.
/// Prefixes are told apart by their hash alone; two with one hash share what is kept, which costs look-ups in vain and
/// nothing else. Control thread only.
final class SPDPrefixes {
  /// Source prefix → `gw_spd_source`; the entry of a destination prefix only stands.
  let sources: HashIndex
  let destinations: HashIndex
  private let reclaimer: any Reclaimer
  private let isV6: Bool
  private var sourceNodes: [UInt64: SourceNode] = [:]
  private var destinationUses: [UInt64: Int] = [:]
  /// Bit of a destination length; for IPv4 the length itself.
  private var bits: [UInt8: UInt8] = [:]
  private var bitUses: [Int] = Array(repeating: 0, count: 64)
  /// Policies of destination lengths that found no bit free.
  private var unindexed: [UInt8: Int] = [:]

  private struct SourceNode {
    let layout: UnsafeMutablePointer<gw_spd_source>
    /// Uses of each (flags, bit): (flags : 8, bit : 8, count : 48), the list short but for prefixes like 0.0.0.0/0.
    var uses: [UInt64] = []
  }

  init(isV6: Bool, seed: UInt64, reclaimer: any Reclaimer) {
    self.isV6 = isV6
    self.reclaimer = reclaimer
    sources = HashIndex(seed: seed, reclaimer: reclaimer)
    destinations = HashIndex(seed: seed, reclaimer: reclaimer)
  }

  deinit { for node in sourceNodes.values { UnsafeMutableRawPointer(node.layout).deallocate() } }

  var footprint: Int { sources.footprint + destinations.footprint + sourceNodes.count * 64 }

  /// While it is not, tuples must be visited one by one.
  var isComplete: Bool { unindexed.isEmpty }

  func bit(ofLength length: UInt8) -> UInt8? { isV6 ? bits[length] : length }

  func insert(_ policy: UnsafeMutablePointer<gw_policy>, _ shape: TupleShape) {
    guard let bit = takeBit(shape.destinationLength) else {
      unindexed[shape.destinationLength, default: 0] += 1
      return
    }
    let (source, destination) = hashes(policy)
    if let uses = destinationUses[destination] {
      destinationUses[destination] = uses + 1
    } else {
      destinationUses[destination] = 1
      destinations.insert(key: destination, value: Self.stands)
    }
    note(source, shape.flags, bit, 1)
  }

  func remove(_ policy: UnsafeMutablePointer<gw_policy>, _ shape: TupleShape) {
    guard let bit = bit(ofLength: shape.destinationLength) else {
      let left = (unindexed[shape.destinationLength] ?? 1) - 1
      unindexed[shape.destinationLength] = left == 0 ? nil : left
      return
    }
    let (source, destination) = hashes(policy)
    note(source, shape.flags, bit, -1)
    if let uses = destinationUses[destination], uses > 1 {
      destinationUses[destination] = uses - 1
    } else {
      destinationUses[destination] = nil
      if let release = destinations.remove(key: destination, value: Self.stands) { reclaimer.retire(release) }
    }
    releaseBit(shape.destinationLength)
  }

  private static var stands: UInt64 { 64 }

  private func hashes(_ policy: UnsafeMutablePointer<gw_policy>) -> (source: UInt64, destination: UInt64) {
    (
      SPDReader.prefixHash(
        policy.pointee.source_high, policy.pointee.source_low, length: policy.pointee.source_length, isV6: isV6),
      SPDReader.prefixHash(
        policy.pointee.destination_high, policy.pointee.destination_low, length: policy.pointee.destination_length,
        isV6: isV6)
    )
  }

  // MARK: Sources

  private func note(_ source: UInt64, _ flags: UInt8, _ bit: UInt8, _ change: Int) {
    var node = sourceNodes.removeValue(forKey: source) ?? makeNode(source)
    let name = UInt64(flags) << 56 | UInt64(bit) << 48
    let position = node.uses.firstIndex { $0 & 0xffff_0000_0000_0000 == name }
    let field = atomicField(UnsafeMutableRawPointer(node.layout), Int(flags) * 8, as: UInt64.self)
    if let position {
      node.uses[position] = node.uses[position] &+ UInt64(bitPattern: Int64(change))
      if node.uses[position] == name {
        node.uses.remove(at: position)
        field.pointee.bitwiseAnd(~(1 << UInt64(bit)), ordering: .releasing)
      }
    } else {
      node.uses.append(name + 1)
      field.pointee.bitwiseOr(1 << UInt64(bit), ordering: .releasing)
    }
    if node.uses.isEmpty { drop(node, source) } else { sourceNodes[source] = node }
  }

  private func makeNode(_ source: UInt64) -> SourceNode {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<gw_spd_source>.stride, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<gw_spd_source>.stride)
    sources.insert(key: source, value: UInt64(UInt(bitPattern: memory)))
    return SourceNode(layout: memory.assumingMemoryBound(to: gw_spd_source.self))
  }

  private func drop(_ node: SourceNode, _ source: UInt64) {
    let memory = UnsafeMutableRawPointer(node.layout)
    let release = sources.remove(key: source, value: UInt64(UInt(bitPattern: memory)))
    reclaimer.retire {
      release?()
      memory.deallocate()
    }
  }

  // MARK: Bits

  private func takeBit(_ length: UInt8) -> UInt8? {
    guard isV6 else { return length }
    guard unindexed[length] == nil else { return nil }
    let bit = bits[length] ?? bitUses.firstIndex(of: 0).map { UInt8($0) }
    guard let bit else { return nil }
    bits[length] = bit
    bitUses[Int(bit)] += 1
    return bit
  }

  private func releaseBit(_ length: UInt8) {
    guard isV6, let bit = bits[length] else { return }
    bitUses[Int(bit)] -= 1
    if bitUses[Int(bit)] == 0 { bits[length] = nil }
  }
}
