import CLayout
import Synchronization

/// The SPD's owner: control thread only. It does not own the policies; their selector fields and rank must not change
/// while they are in the table.
public final class SPD {
  private let root: UnsafeMutableRawPointer
  private let seed = UInt64.random(in: 0...UInt64.max)
  private let reclaimer: any Reclaimer
  /// By direction.
  private let views4: [SPDView<UInt32>]
  private let views6: [SPDView<UInt128>]
  /// By direction, what packets may be for that hide ports, or, of IPv6, all but their addresses.
  private let shadows4: [SPDShadows<UInt32>]
  private let shadows6: [SPDShadows<UInt128>]
  private let allShadows6: [SPDShadows<UInt128>]
  private let protectedSources4: SPDProtectedSources<UInt32>
  private let protectedSources6: SPDProtectedSources<UInt128>
  public private(set) var count = 0
  /// While a batch is open, changes are published but the generation waits.
  private var batchDepth = 0
  private var batchIsDirty = false
  /// To be retired after the next step of the generation: until then flow caches may lead to what was removed.
  private var removed: [() -> Void] = []

  public init(reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    let bytes = SPDReader.generationOffset + 64
    root = .allocate(byteCount: bytes, alignment: 64)
    root.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    atomicField(root, SPDReader.generationOffset, as: UInt32.self).pointee.store(1, ordering: .relaxed)
    let (root, seed) = (root, seed)
    func view<Key: PrefixKey>(_ slot: Int, _: Key.Type = Key.self) -> SPDView<Key> {
      SPDView(root + slot * SPDReader.viewBytes, seed: seed, reclaimer: reclaimer)
    }
    views4 = [0, 2].map { view($0) }
    views6 = [1, 3].map { view($0) }
    let (ports, all) = (SPDReader.viewsOfKind, 2 * SPDReader.viewsOfKind)
    shadows4 = [0, 2].map { SPDShadows(view(ports + $0), hidden: .ports) }
    shadows6 = [1, 3].map { SPDShadows(view(ports + $0), hidden: .ports) }
    allShadows6 = [1, 3].map { SPDShadows(view(all + $0), hidden: .all) }
    protectedSources4 = SPDProtectedSources(view: root + 2 * SPDReader.viewBytes, reclaimer: reclaimer)
    protectedSources6 = SPDProtectedSources(view: root + 3 * SPDReader.viewBytes, reclaimer: reclaimer)
  }

  /// No reader may be left.
  deinit { root.deallocate() }

  public var reader: SPDReader { SPDReader(root: root, seed: seed) }
  public var generation: UInt32 { reader.generation }

  /// Bytes held, policies not counted.
  public var footprint: Int {
    let shadows =
      shadows4.reduce(0) { $0 + $1.footprint } + (shadows6 + allShadows6).reduce(0) { $0 + $1.footprint }
    return SPDReader.generationOffset + 64 + views4.reduce(0) { $0 + $1.footprint }
      + views6.reduce(0) { $0 + $1.footprint } + shadows + protectedSources4.footprint + protectedSources6.footprint
  }

  public func insert(_ policy: UnsafeMutablePointer<gw_policy>) {
    let direction = Int(policy.pointee.direction & 1)
    if policy.pointee.family == 10 {
      views6[direction].insert(policy)
      protectedSources6.insert(policy)
      removed += [shadows6[direction], allShadows6[direction]].compactMap { $0.insert(policy) }
    } else {
      views4[direction].insert(policy)
      protectedSources4.insert(policy)
      removed += [shadows4[direction]].compactMap { $0.insert(policy) }
    }
    count += 1
    bump()
  }

  /// Unpublishes a policy; `free` runs when no worker can hold it any more. False if it is not in the table.
  public func remove(_ policy: UnsafeMutablePointer<gw_policy>, free: @escaping () -> Void = {}) -> Bool {
    let direction = Int(policy.pointee.direction & 1)
    let release =
      policy.pointee.family == 10 ? views6[direction].remove(policy) : views4[direction].remove(policy)
    guard let release else { return false }
    if policy.pointee.family == 10 { protectedSources6.remove(policy) } else { protectedSources4.remove(policy) }
    removed.append {
      release()
      free()
    }
    removed +=
      policy.pointee.family == 10
      ? [shadows6[direction], allShadows6[direction]].compactMap { $0.remove(policy) }
      : [shadows4[direction]].compactMap { $0.remove(policy) }
    count -= 1
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
    for view in views4 { view.publish() }
    for view in views6 { view.publish() }
    protectedSources4.publish()
    protectedSources6.publish()
    for shadows in shadows4 { shadows.publish() }
    for shadows in shadows6 + allShadows6 { shadows.publish() }
    atomicField(root, SPDReader.generationOffset, as: UInt32.self).pointee.wrappingAdd(1, ordering: .releasing)
    let retired = removed
    removed = []
    for free in retired { reclaimer.retire(free) }
  }
}
