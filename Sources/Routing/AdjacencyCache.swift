import IPsec
import Wire

/// Names an adjacency by what it says, so that all routes to one next hop share one record.
enum AdjacencyKey: Hashable {
  case local(port: UInt16)
  case broadcast(port: UInt16)
  case multicast
  case glean(port: UInt16, mtu: UInt32)
  case nextHop(NeighborKey, Variant)
  case drop(Adjacency.Kind)

  /// By what the ways through one next hop differ: the packets' family and the largest of them.
  struct Variant: Hashable {
    var family: AddressFamily
    var mtu: UInt32
  }

  var port: UInt16? {
    switch self {
    case .local(let port), .broadcast(let port), .glean(let port, _): port
    case .nextHop(let key, _): key.port
    case .multicast, .drop: nil
    }
  }
}

/// Adjacencies by key with the number of prefixes that lead to each. Control thread.
struct AdjacencyCache {
  let pool: AdjacencyPool
  private var used: [AdjacencyKey: (index: UInt32, references: Int)] = [:]
  /// The variants in use towards one next hop.
  private var variants: [NeighborKey: [AdjacencyKey.Variant]] = [:]

  init(capacity: Int, reclaimer: Reclaimer) { pool = AdjacencyPool(capacity: capacity, reclaimer: reclaimer) }

  /// Next hops that at least one prefix leads to.
  var nextHops: some Collection<NeighborKey> { variants.keys }

  func isNextHop(_ key: NeighborKey) -> Bool { variants[key] != nil }

  /// The index for a key, one reference more; `make` says what a new record holds.
  mutating func acquire(_ key: AdjacencyKey, make: () -> Adjacency) throws(RoutingError) -> UInt32 {
    if let present = used[key] {
      used[key] = (present.index, present.references + 1)
      return present.index
    }
    let index = try pool.allocate(make())
    used[key] = (index, 1)
    if case .nextHop(let neighbor, let variant) = key { variants[neighbor, default: []].append(variant) }
    return index
  }

  mutating func release(_ key: AdjacencyKey) {
    guard let present = used[key] else { return }
    guard present.references == 1 else {
      used[key] = (present.index, present.references - 1)
      return
    }
    used[key] = nil
    pool.free(present.index)
    if case .nextHop(let neighbor, let variant) = key {
      variants[neighbor]?.removeAll { $0 == variant }
      if variants[neighbor]?.isEmpty == true { variants[neighbor] = nil }
    }
  }

  /// Publishes anew every record towards a next hop.
  func rewrite(nextHop: NeighborKey, make: (AdjacencyKey) -> Adjacency) {
    for variant in variants[nextHop] ?? [] { rewrite(.nextHop(nextHop, variant), make) }
  }

  /// Publishes anew every record of a port.
  func rewrite(port: UInt16, make: (AdjacencyKey) -> Adjacency) {
    for key in used.keys where key.port == port { rewrite(key, make) }
  }

  private func rewrite(_ key: AdjacencyKey, _ make: (AdjacencyKey) -> Adjacency) {
    guard let present = used[key] else { return }
    pool.replace(present.index, with: make(key))
  }
}
