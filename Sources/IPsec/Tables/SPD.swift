import CLayout
import Synchronization

/// The SPD's owner: control thread only. It does not own the policies; their selector fields and rank must not change
/// while they are in the table.
public final class SPD {
  private let root: UnsafeMutableRawPointer
  private let seed = UInt64.random(in: 0...UInt64.max)
  private let reclaimer: any Reclaimer
  /// By (direction, family), as in `root`.
  private let views: [any SPDViewing]
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
    views = (0..<4).map { slot -> any SPDViewing in
      let memory = root + slot * SPDReader.viewBytes
      return slot % 2 == 1
        ? SPDView<UInt128>(memory, seed: seed, reclaimer: reclaimer)
        : SPDView<UInt32>(memory, seed: seed, reclaimer: reclaimer)
    }
  }

  /// No reader may be left.
  deinit { root.deallocate() }

  public var reader: SPDReader { SPDReader(root: root, seed: seed) }
  public var generation: UInt32 { reader.generation }

  /// Bytes held, policies not counted.
  public var footprint: Int { views.reduce(SPDReader.generationOffset + 64) { $0 + $1.footprint } }

  public func insert(_ policy: UnsafeMutablePointer<gw_policy>) {
    views[Self.slot(policy)].insert(policy)
    count += 1
    bump()
  }

  /// Unpublishes a policy; `free` runs when no worker can hold it any more. False if it is not in the table.
  public func remove(_ policy: UnsafeMutablePointer<gw_policy>, free: @escaping () -> Void = {}) -> Bool {
    guard let release = views[Self.slot(policy)].remove(policy) else { return false }
    removed.append {
      release()
      free()
    }
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
    for view in views { view.publish() }
    atomicField(root, SPDReader.generationOffset, as: UInt32.self).pointee.wrappingAdd(1, ordering: .releasing)
    let retired = removed
    removed = []
    for free in retired { reclaimer.retire(free) }
  }

  private static func slot(_ policy: UnsafeMutablePointer<gw_policy>) -> Int {
    Int(policy.pointee.direction & 1) * 2 + (policy.pointee.family == 10 ? 1 : 0)
  }
}
