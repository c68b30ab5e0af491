import IPsec
import Wire

/// The owner and only writer of a `FIB`: keeps which prefix leads to which adjacency, and changes the tries in place,
/// entry by entry, so that a reader finds for each address the old answer or the new one and nothing else. Nodes that
/// are no longer needed go to the reclaimer. Control thread, but for `fib`, which any thread may copy and read.
public final class ForwardingTable {
  /// What workers read. Valid as long as this object lives.
  public let fib: FIB

  /// The two roots stay for life, so the limit counts what comes and goes.
  public let maximumNodes: Int
  public private(set) var nodeCount = 0

  private var prefixes: [IPPrefix: UInt32] = [:]
  private let reclaimer: Reclaimer

  /// `maximumNodes`: of 2112 bytes each.
  public init(reclaimer: Reclaimer, maximumNodes: Int = 1 << 18) {
    self.reclaimer = reclaimer
    self.maximumNodes = maximumNodes
    fib = FIB(
      v4Root: FIBNode(filledWith: .noRoute).entries, v6Root: FIBNode(filledWith: .noRoute).entries)
  }

  /// No reader may be left.
  deinit {
    Self.freeTree(FIBNode(at: fib.v4Root))
    Self.freeTree(FIBNode(at: fib.v6Root))
  }

  public var count: Int { prefixes.count }

  /// The adjacency of exactly this prefix.
  public subscript(prefix: IPPrefix) -> UInt32? { prefixes[prefix] }

  /// Adds the prefix or changes where it leads. `full` leaves everything as it was.
  public func insert(_ prefix: IPPrefix, adjacency: UInt32) throws(RoutingError) {
    let isNew = prefixes[prefix] == nil
    if isNew {
      guard nodeCount + missingNodes(for: prefix) <= maximumNodes else {
        throw .full("the forwarding table has \(maximumNodes) nodes and no room for \(prefix)")
      }
    }
    prefixes[prefix] = adjacency
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    if isNew { node.prefixCount += 1 }
    for level in 0..<position.depth {
      node = descend(from: node, slot: position.slot(level))
      if isNew { node.prefixCount += 1 }
    }
    let leaf = FIBLeaf(adjacency: adjacency, length: prefix.length)
    node.push(leaf, into: position.slots) { $0.length <= prefix.length }
  }

  /// Takes the prefix out; addresses in it fall back to the longest prefix that still covers them.
  /// Returns false if it was not there.
  @discardableResult
  public func remove(_ prefix: IPPrefix) -> Bool {
    guard prefixes.removeValue(forKey: prefix) != nil else { return false }
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    node.prefixCount -= 1
    var emptied: (parent: FIBNode, slot: Int)?
    for level in 0..<position.depth {
      let slot = position.slot(level)
      guard let child = node.child(slot) else { break }
      child.prefixCount -= 1
      if child.prefixCount == 0, emptied == nil { emptied = (node, slot) }
      node = child
    }
    let cover = coveringLeaf(of: prefix)
    if let (parent, slot) = emptied {
      collapse(slot, of: parent, into: cover)
    } else {
      node.push(cover, into: position.slots) { $0.length == prefix.length }
    }
    return true
  }

  /// The longest prefix in the table that covers this one and is shorter, and where it leads.
  public func covering(_ prefix: IPPrefix) -> (prefix: IPPrefix, adjacency: UInt32)? {
    var length = prefix.length
    while length > 0 {
      length -= 1
      if let shorter = IPPrefix(prefix.address, length: length), let adjacency = prefixes[shorter] {
        return (shorter, adjacency)
      }
    }
    return nil
  }

  // MARK: Nodes

  private func root(_ family: AddressFamily) -> FIBNode {
    FIBNode(at: family == .v4 ? fib.v4Root : fib.v6Root)
  }

  private func coveringLeaf(of prefix: IPPrefix) -> FIBLeaf {
    guard let (cover, adjacency) = covering(prefix) else { return .noRoute }
    return FIBLeaf(adjacency: adjacency, length: cover.length)
  }

  /// The child in a slot; where there is none, a new one that gives the answers that the slot gave.
  private func descend(from node: FIBNode, slot: Int) -> FIBNode {
    if let child = node.child(slot) { return child }
    let child = FIBNode(filledWith: node.leaf(slot))
    nodeCount += 1
    node.publish(child, in: slot)
    return child
  }

  private func missingNodes(for prefix: IPPrefix) -> Int {
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    for level in 0..<position.depth {
      guard let child = node.child(position.slot(level)) else { return position.depth - level }
      node = child
    }
    return 0
  }

  /// No prefix ends below the slot any more, so one leaf says it all. Readers inside the old nodes read on there.
  private func collapse(_ slot: Int, of parent: FIBNode, into leaf: FIBLeaf) {
    guard let subtree = parent.child(slot) else { return }
    parent.publish(leaf, in: slot)
    nodeCount -= Self.nodeCount(in: subtree)
    reclaimer.retire { Self.freeTree(subtree) }
  }

  private static func nodeCount(in tree: FIBNode) -> Int {
    (0..<FIBNode.entryCount).reduce(1) { sum, slot in sum + (tree.child(slot).map(nodeCount(in:)) ?? 0) }
  }

  private static func freeTree(_ tree: FIBNode) {
    for slot in 0..<FIBNode.entryCount {
      if let child = tree.child(slot) { freeTree(child) }
    }
    tree.free()
  }
}

/// Where a prefix lies in its trie.
private struct TriePosition {
  private let high: UInt64
  private let low: UInt64
  private let length: Int

  init(_ prefix: IPPrefix) {
    let halves = prefix.address.halves
    (high, low) = prefix.family == .v4 ? (halves.1 << 32, 0) : halves
    length = Int(prefix.length)
  }

  /// Nodes below the root on the way to the one where the prefix ends.
  var depth: Int { length == 0 ? 0 : (length - 1) / 8 }

  func slot(_ level: Int) -> Int {
    Int(truncatingIfNeeded: level < 8 ? high >> UInt64(56 - level * 8) : low >> UInt64(120 - level * 8)) & 255
  }

  /// The slots that the prefix covers in the node where it ends.
  var slots: Range<Int> {
    let first = slot(depth)
    return first..<(first + 1 << (8 * (depth + 1) - length))
  }
}
