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
    let leaf = FIBLeaf(adjacency: adjacency, length: prefix.length)
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    if isNew { node.prefixCount += 1 }
    for level in 0..<position.depth {
      guard let below = descend(from: node, level, position, leaf) else { return }
      node = below
      if isNew { node.prefixCount += 1 }
    }
    node.push(leaf, into: position.slots, replaces: { $0.length <= prefix.length }, retire: retire)
  }

  /// Takes the prefix out; addresses in it fall back to the longest prefix that still covers them.
  /// Returns false if it was not there.
  @discardableResult
  public func remove(_ prefix: IPPrefix) -> Bool {
    guard prefixes.removeValue(forKey: prefix) != nil else { return false }
    let cover = coveringLeaf(of: prefix)
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    node.prefixCount -= 1
    for level in 0..<position.depth {
      let slot = position.slot(level)
      guard case .child(let child) = node.content(slot) else {
        // A tail, then, and the prefix's own.
        replace(slot, of: node, with: cover)
        return true
      }
      child.prefixCount -= 1
      guard child.prefixCount > 0 else {
        replace(slot, of: node, with: cover)
        return true
      }
      node = child
    }
    node.push(cover, into: position.slots, replaces: { $0.length == prefix.length }, retire: retire)
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

  /// The child in a slot on the way to a prefix; where there is none, a new one that gives the answers that the slot
  /// gave. Nil: a tail in the slot says it all, and is published.
  private func descend(from node: FIBNode, _ level: Int, _ position: TriePosition, _ leaf: FIBLeaf) -> FIBNode? {
    let slot = position.slot(level)
    switch node.content(slot) {
    case .child(let child): return child
    case .leaf(let present):
      if position.takesTails {
        node.publish(position.tail(inside: leaf, outside: present).published(), in: slot)
        return nil
      }
      return publish(FIBNode(filledWith: present), in: slot, of: node)
    case .tail(let tail):
      if position == TriePosition(tail.pointee) {
        node.publish(tail.pointee.with(inside: leaf).published(), in: slot)
        retire(tail)
        return nil
      }
      return publish(expanded(tail, level: level + 1), in: slot, of: node)
    }
  }

  private func publish(_ child: FIBNode, in slot: Int, of node: FIBNode) -> FIBNode {
    nodeCount += 1
    node.publish(child, in: slot)
    return child
  }

  /// A node of this level that gives the answers that a tail gave; the tail moves into it if its prefix ends further down.
  private func expanded(_ tail: UnsafePointer<FIBTail>, level: Int) -> FIBNode {
    let node = FIBNode(filledWith: FIBLeaf(word: tail.pointee.outside))
    node.prefixCount = 1
    let position = TriePosition(tail.pointee)
    if position.depth > level {
      node.publish(tail, in: position.slot(level))
    } else {
      for slot in position.slots { node.publish(FIBLeaf(word: tail.pointee.inside), in: slot) }
      retire(tail)
    }
    return node
  }

  /// The most nodes that the prefix can need.
  private func missingNodes(for prefix: IPPrefix) -> Int {
    let position = TriePosition(prefix)
    var node = root(prefix.family)
    for level in 0..<position.depth {
      switch node.content(position.slot(level)) {
      case .child(let child): node = child
      case .leaf: return position.takesTails ? 0 : position.depth - level
      case .tail(let tail): return position == TriePosition(tail.pointee) ? 0 : position.depth - level
      }
    }
    return 0
  }

  /// No prefix is left below the slot, so one leaf says it all. Readers inside what was there read on.
  private func replace(_ slot: Int, of parent: FIBNode, with leaf: FIBLeaf) {
    let old = parent.content(slot)
    parent.publish(leaf, in: slot)
    switch old {
    case .leaf: break
    case .tail(let tail): retire(tail)
    case .child(let subtree):
      nodeCount -= Self.nodeCount(in: subtree)
      reclaimer.retire { Self.freeTree(subtree) }
    }
  }

  private func retire(_ tail: UnsafePointer<FIBTail>) { reclaimer.retire { tail.deallocate() } }

  private static func nodeCount(in tree: FIBNode) -> Int {
    (0..<FIBNode.entryCount).reduce(1) { sum, slot in
      if case .child(let child) = tree.content(slot) { sum + nodeCount(in: child) } else { sum }
    }
  }

  private static func freeTree(_ tree: FIBNode) {
    for slot in 0..<FIBNode.entryCount {
      switch tree.content(slot) {
      case .leaf: break
      case .child(let child): freeTree(child)
      case .tail(let tail): tail.deallocate()
      }
    }
    tree.free()
  }
}

/// Where a prefix lies in its trie.
private struct TriePosition: Equatable {
  /// The IPv6 trie is deep and sparse; the IPv4 one is neither, and its lookup stays as short as can be.
  let takesTails: Bool
  private let high: UInt64
  private let low: UInt64
  private let length: Int

  init(_ prefix: IPPrefix) {
    let halves = prefix.address.halves
    (high, low) = prefix.family == .v4 ? (halves.1 << 32, 0) : halves
    length = Int(prefix.length)
    takesTails = prefix.family == .v6
  }

  init(_ tail: FIBTail) {
    (high, low) = (tail.keyHigh, tail.keyLow)
    length = Int(FIBLeaf(word: tail.inside).length)
    takesTails = true
  }

  func tail(inside: FIBLeaf, outside: FIBLeaf) -> FIBTail {
    FIBTail(keyHigh: high, keyLow: low, inside: inside, outside: outside)
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
