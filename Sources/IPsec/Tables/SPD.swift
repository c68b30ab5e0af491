import CLayout
import Synchronization

/// The SPD's owner: control thread only. It does not own the policies; their selector fields and rank must not change
/// while they are in the table.
public final class SPD {
  private let root: UnsafeMutableRawPointer
  private let seed = UInt64.random(in: 0...UInt64.max)
  private let reclaimer: any Reclaimer
  /// By (direction, family), as in `root`.
  private var views: [View]
  public private(set) var count = 0
  /// While a batch is open, changes are published but the generation waits.
  private var batchDepth = 0
  private var batchIsDirty = false
  /// To be retired after the next step of the generation: until then flow caches may lead to what was removed.
  private var removed: [() -> Void] = []

  public init(reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    root = .allocate(byteCount: 64, alignment: 64)
    root.initializeMemory(as: UInt64.self, repeating: 0, count: 8)
    atomicField(root, SPDReader.generationOffset, as: UInt32.self).pointee.store(1, ordering: .relaxed)
    views = (0..<4).map { _ in View() }
    for slot in views.indices { publish(slot) }
  }

  /// No reader may be left.
  deinit {
    for view in views { view.published?.deallocate() }
    root.deallocate()
  }

  public var reader: SPDReader { SPDReader(root: root, seed: seed) }
  public var generation: UInt32 { reader.generation }

  /// Bytes held, policies not counted.
  public var footprint: Int {
    views.reduce(64) { $0 + $1.tuples.values.reduce(64) { $0 + $1.index.footprint + MemoryLayout<gw_tuple>.stride } }
  }

  public func insert(_ policy: UnsafeMutablePointer<gw_policy>) {
    let slot = Self.slot(policy)
    let shape = TupleShape(policy)
    let tuple: Tuple
    if let standing = views[slot].tuples[shape] {
      tuple = standing
    } else {
      tuple = Tuple(shape: shape, index: HashIndex(seed: seed, reclaimer: reclaimer))
      views[slot].tuples[shape] = tuple
    }
    tuple.index.insert(key: tuple.key(policy), value: UInt64(UInt(bitPattern: policy)))
    if tuple.count(policy.pointee.rank, 1) { publish(slot) }
    count += 1
    bump()
  }

  /// Unpublishes a policy; `free` runs when no worker can hold it any more. False if it is not in the table.
  public func remove(_ policy: UnsafeMutablePointer<gw_policy>, free: @escaping () -> Void = {}) -> Bool {
    let slot = Self.slot(policy)
    let shape = TupleShape(policy)
    guard let tuple = views[slot].tuples[shape],
      let release = tuple.index.remove(key: tuple.key(policy), value: UInt64(UInt(bitPattern: policy)))
    else { return false }
    removed.append {
      release()
      free()
    }
    count -= 1
    let changed = tuple.count(policy.pointee.rank, -1)
    if tuple.index.count == 0 {
      views[slot].tuples[shape] = nil
      publish(slot)
      reclaimer.retire { withExtendedLifetime(tuple) {} }
    } else if changed {
      publish(slot)
    }
    bump()
    return true
  }

  /// Makes the changes of `body` one step of the generation, so that flow caches are voided once.
  public func batch<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
    batchDepth += 1
    defer {
      batchDepth -= 1
      if batchDepth == 0, batchIsDirty { bump() }
    }
    try body()
  }

  /// Voids flow caches without a change of what `lookup` finds.
  public func touch() { bump() }

  private func bump() {
    batchIsDirty = batchDepth > 0
    guard batchDepth == 0 else { return }
    atomicField(root, SPDReader.generationOffset, as: UInt32.self).pointee.wrappingAdd(1, ordering: .releasing)
    let retired = removed
    removed = []
    for free in retired { reclaimer.retire(free) }
  }

  /// Builds and publishes the sorted array of tuples of a view.
  private func publish(_ slot: Int) {
    let tuples = views[slot].tuples.values.sorted { $0.rank < $1.rank }
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: SPDReader.viewHeader + tuples.count * MemoryLayout<gw_tuple>.stride, alignment: 64)
    memory.storeBytes(of: tuples.count, as: Int.self)
    let entries = (memory + SPDReader.viewHeader).assumingMemoryBound(to: gw_tuple.self)
    for (position, tuple) in tuples.enumerated() { (entries + position).initialize(to: tuple.layout) }
    let old = views[slot].published
    views[slot].published = memory
    atomicField(root, slot * 8, as: UInt.self).pointee.store(UInt(bitPattern: memory), ordering: .releasing)
    if let old { reclaimer.retire { old.deallocate() } }
  }

  private static func slot(_ policy: UnsafeMutablePointer<gw_policy>) -> Int {
    Int(policy.pointee.direction & 1) * 2 + (policy.pointee.family == 10 ? 1 : 0)
  }

  private struct View {
    var tuples: [TupleShape: Tuple] = [:]
    var published: UnsafeMutableRawPointer?
  }
}

/// What the selectors of one tuple have in common.
struct TupleShape: Hashable {
  let sourceLength: UInt8
  let destinationLength: UInt8
  /// `gw_tuple_flag`.
  let flags: UInt8
  let isV6: Bool

  init(_ policy: UnsafeMutablePointer<gw_policy>) {
    sourceLength = policy.pointee.source_length
    destinationLength = policy.pointee.destination_length
    isV6 = policy.pointee.family == 10
    var flags: UInt32 = policy.pointee.any_protocol == 0 ? GW_TUPLE_PROTOCOL.rawValue : 0
    if policy.pointee.source_port_low == policy.pointee.source_port_high { flags |= GW_TUPLE_SOURCE_PORT.rawValue }
    if policy.pointee.destination_port_low == policy.pointee.destination_port_high {
      flags |= GW_TUPLE_DESTINATION_PORT.rawValue
    }
    self.flags = UInt8(flags)
  }
}

/// One tuple of the SPD, the writer's side.
private final class Tuple {
  let shape: TupleShape
  let index: HashIndex
  /// How many policies rank by each priority; `UInt64.max >> 1` and up: by specificity.
  private var ranks: [UInt64: Int] = [:]
  /// No policy in it ranks before this.
  private(set) var rank = UInt64.max

  init(shape: TupleShape, index: HashIndex) {
    self.shape = shape
    self.index = index
  }

  /// Notes a policy that came (1) or went (-1). True if `rank` changed.
  func count(_ rank: UInt64, _ change: Int) -> Bool {
    // The age does not matter here.
    let kind = rank >> 63 == 0 ? rank & ~0x7fff_ffff : rank & ~0xf_ffff_ffff
    let old = self.rank
    ranks[kind, default: 0] += change
    if ranks[kind] == 0 {
      ranks[kind] = nil
      if kind == old { self.rank = ranks.keys.min() ?? .max }
    } else {
      self.rank = min(old, kind)
    }
    return self.rank != old
  }

  var layout: gw_tuple {
    var layout = gw_tuple()
    layout.rank = rank
    layout.index = UnsafeMutableRawPointer(index.reader.root)
    if !shape.isV6 {
      layout.source_mask = UInt32(truncatingIfNeeded: SPDReader.masks(shape.sourceLength).0 >> 32)
      layout.destination_mask = UInt32(truncatingIfNeeded: SPDReader.masks(shape.destinationLength).0 >> 32)
    }
    layout.source_length = shape.sourceLength
    layout.destination_length = shape.destinationLength
    layout.flags = shape.flags
    return layout
  }

  /// The hash of a policy's selector, as a packet that matches it makes it.
  func key(_ policy: UnsafeMutablePointer<gw_policy>) -> UInt64 {
    var key = gw_flow_key()
    key.source_high = policy.pointee.source_high
    key.source_low = policy.pointee.source_low
    key.destination_high = policy.pointee.destination_high
    key.destination_low = policy.pointee.destination_low
    key.source_port = policy.pointee.source_port_low
    key.destination_port = policy.pointee.destination_port_low
    key.ip_protocol = policy.pointee.ip_protocol
    var layout = layout
    return shape.isV6 ? SPDReader.hashV6(&layout, &key) : SPDReader.hashV4(&layout, &key)
  }
}
