import CLayout
import Synchronization

/// The source prefixes in use of one view, a `gw_spd_node` each. Readers find the longest that can cover an address in
/// the order of addresses, and the shorter ones by its links. Control thread only.
final class SPDSources<Key: PrefixKey> {
  typealias Node = UnsafeMutablePointer<gw_spd_node>

  let order: PrefixOrder<Key>
  private let slab = Slab<gw_spd_node>()

  init(root: UnsafeMutableRawPointer, reclaimer: any Reclaimer) {
    order = PrefixOrder(words: 1, root: root, reclaimer: reclaimer)
  }

  var footprint: Int { order.footprint + slab.inUse * MemoryLayout<gw_spd_node>.stride }

  func find(_ prefix: PrefixName<Key>) -> Node? {
    guard let place = order.floor(prefix.address), place.address == prefix.address else { return nil }
    var next = Self.node(place.words)
    while let node = next, node.length > prefix.length { next = node.up }
    return next.flatMap { $0.length == prefix.length ? $0 : nil }
  }

  /// Adds a prefix that is not there.
  func insert(_ prefix: PrefixName<Key>) -> Node {
    let node = slab.allocate()
    node.pointee.address_high = UInt64(truncatingIfNeeded: UInt128(prefix.address) >> 64)
    node.pointee.address_low = UInt64(truncatingIfNeeded: prefix.address)
    node.pointee.rank = .max
    node.pointee.cells = gw_spd_node.noCells
    node.store(length: prefix.length, up: covering(prefix))
    forEachBelow(node, prefix) { below in if below.up == node.up { below.store(up: node) } }
    add(node, prefix)
    return node
  }

  /// Unlinks a node. When no reader can hold it, give it to `free`.
  func remove(_ node: Node) {
    let prefix = name(node)
    forEachBelow(node, prefix) { below in if below.up == node { below.store(up: node.up) } }
    guard let place = order.floor(prefix.address), Self.node(place.words) == node else { return }
    if let up = node.up, name(up).address == prefix.address {
      set(prefix.address, up)
    } else {
      order.remove(prefix.address)
    }
  }

  func free(_ node: Node) { slab.deallocate(node) }

  /// The longest prefix in use that covers this one and is not it.
  private func covering(_ prefix: PrefixName<Key>) -> Node? {
    guard let place = order.floor(prefix.address) else { return nil }
    let common = place.address.common(prefix.address)
    var next = Self.node(place.words)
    while let node = next, node.length >= prefix.length || node.length > common { next = node.up }
    return next
  }

  /// Calls `body` with those within the prefix between which and the prefix there is none.
  private func forEachBelow(_ node: Node, _ prefix: PrefixName<Key>, _ body: (Node) -> Void) {
    // Up to here all addresses are below the one that was last.
    var done: Key?
    order.forEach(prefix.address, prefix.last) { address, words in
      if let done, address <= done { return }
      guard var below = Self.node(words), below.length > prefix.length else { return }
      while let up = below.up, up.length > prefix.length { below = up }
      body(below)
      done = PrefixName(address, below.length).last
    }
  }

  private func add(_ node: Node, _ prefix: PrefixName<Key>) {
    if let place = order.floor(prefix.address), place.address == prefix.address {
      // The longest stands in the order; the others are above it.
      if let standing = Self.node(place.words), standing.length > prefix.length { return }
    } else {
      order.insert(prefix.address)
    }
    set(prefix.address, node)
  }

  private func set(_ address: Key, _ node: Node) {
    order.forEach(address, address) { _, words in
      atomicField(words, 0, as: UInt.self).pointee.store(UInt(bitPattern: node), ordering: .releasing)
    }
  }

  private func name(_ node: Node) -> PrefixName<Key> {
    PrefixName(Key(high: node.pointee.address_high, low: node.pointee.address_low), node.length)
  }

  private static func node(_ words: UnsafeMutableRawPointer) -> Node? {
    Node(bitPattern: words.load(as: UInt.self))
  }
}
