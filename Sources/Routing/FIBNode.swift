import Synchronization

/// One node of the trie as the writer sees it: 256 entries that readers follow and, a cache line behind them, the number
/// of prefixes that end in this node or below it. Control thread.
struct FIBNode {
  static let entryCount = 256
  private static let entryBytes = entryCount * MemoryLayout<UInt64>.stride
  private static let cacheLine = 64

  let entries: UnsafeMutablePointer<FIB.Entry>

  /// A node whose every entry is `leaf`; not yet visible to anyone.
  init(filledWith leaf: FIBLeaf) {
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: Self.entryBytes + Self.cacheLine, alignment: Self.cacheLine)
    entries = memory.bindMemory(to: FIB.Entry.self, capacity: Self.entryCount)
    for slot in 0..<Self.entryCount { (entries + slot).initialize(to: Atomic(leaf.word)) }
    (memory + Self.entryBytes).storeBytes(of: 0, as: Int.self)
  }

  init(at entries: UnsafeMutablePointer<FIB.Entry>) { self.entries = entries }

  func free() { UnsafeMutableRawPointer(entries).deallocate() }

  /// Prefixes that end here or below.
  var prefixCount: Int {
    get { (UnsafeRawPointer(entries) + Self.entryBytes).load(as: Int.self) }
    nonmutating set { (UnsafeMutableRawPointer(entries) + Self.entryBytes).storeBytes(of: newValue, as: Int.self) }
  }

  enum Content {
    case leaf(FIBLeaf)
    case child(FIBNode)
    case tail(UnsafePointer<FIBTail>)
  }

  func content(_ slot: Int) -> Content {
    let word = entries[slot].load(ordering: .relaxed)
    if word & 1 != 0 { return .leaf(FIBLeaf(word: word)) }
    return word & 2 != 0 ? .tail(FIB.tail(word)) : .child(FIBNode(at: FIB.child(word)))
  }

  func publish(_ leaf: FIBLeaf, in slot: Int) { entries[slot].store(leaf.word, ordering: .releasing) }

  func publish(_ child: FIBNode, in slot: Int) {
    entries[slot].store(UInt64(UInt(bitPattern: child.entries)), ordering: .releasing)
  }

  func publish(_ tail: UnsafePointer<FIBTail>, in slot: Int) {
    entries[slot].store(UInt64(UInt(bitPattern: tail)) | 2, ordering: .releasing)
  }

  /// Puts `leaf` into every leaf slot of the range, and of the nodes and tails below, whose present leaf satisfies
  /// `replaces`. `retire` takes tails that were replaced.
  func push(
    _ leaf: FIBLeaf, into slots: Range<Int>, replaces: (FIBLeaf) -> Bool, retire: (UnsafePointer<FIBTail>) -> Void
  ) {
    for slot in slots {
      switch content(slot) {
      case .leaf(let present): if replaces(present) { publish(leaf, in: slot) }
      case .child(let child): child.push(leaf, into: 0..<Self.entryCount, replaces: replaces, retire: retire)
      case .tail(let tail):
        guard replaces(FIBLeaf(word: tail.pointee.outside)) else { continue }
        publish(tail.pointee.with(outside: leaf).published(), in: slot)
        retire(tail)
      }
    }
  }
}

extension FIBTail {
  /// A copy in memory of its own, for a slot.
  func published() -> UnsafePointer<FIBTail> {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    let tail = memory.bindMemory(to: FIBTail.self, capacity: 1)
    tail.initialize(to: self)
    return UnsafePointer(tail)
  }

  func with(outside: FIBLeaf) -> FIBTail {
    FIBTail(keyHigh: keyHigh, keyLow: keyLow, inside: FIBLeaf(word: inside), outside: outside)
  }

  func with(inside: FIBLeaf) -> FIBTail {
    FIBTail(keyHigh: keyHigh, keyLow: keyLow, inside: inside, outside: FIBLeaf(word: outside))
  }
}

/// What a leaf entry says: where packets go and how long the prefix is that sends them there.
struct FIBLeaf: Equatable {
  let word: UInt64

  init(word: UInt64) { self.word = word }

  init(adjacency: UInt32, length: UInt8) { word = UInt64(adjacency) << 32 | UInt64(length) << 8 | 1 }

  static let noRoute = FIBLeaf(adjacency: 0, length: 0)

  var adjacency: UInt32 { UInt32(truncatingIfNeeded: word >> 32) }
  var length: UInt8 { UInt8(truncatingIfNeeded: word >> 8) }
}
