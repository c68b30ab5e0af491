import CLayout
import Synchronization

/// What `SPD` asks of a view, whatever its family.
protocol SPDViewing: AnyObject {
  var footprint: Int { get }
  func insert(_ policy: UnsafeMutablePointer<gw_policy>)
  /// Nil if the policy is not here; else what must be called when no reader can hold it.
  func remove(_ policy: UnsafeMutablePointer<gw_policy>) -> (() -> Void)?
  /// Shows readers what changed, as far as they did not see it already.
  func publish()
}

/// The policies of one direction and family, the writer's side. Control thread only.
final class SPDView<Key: PrefixKey>: SPDViewing {
  typealias Policy = UnsafeMutablePointer<gw_policy>
  typealias Node = UnsafeMutablePointer<gw_spd_node>

  private let view: UnsafeMutablePointer<gw_spd_view>
  private let reclaimer: any Reclaimer
  private let sources: SPDSources<Key>
  private let destinations: SPDDestinations<Key>
  private let priorities: SPDPriorities
  /// The cells of nodes with many.
  private let cells: HashIndex
  /// Cells by (fan's node : 48, flags : 8, bit of the destination length : 8).
  private var fanUses: [UInt64: UInt32] = [:]
  private var fans = 0
  /// To be freed after what no longer leads to it is published.
  private var unlinked: [() -> Void] = []

  /// - Parameter memory: of one zeroed `gw_spd_view`; the caller's.
  init(_ memory: UnsafeMutableRawPointer, seed: UInt64, reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    view = memory.bindMemory(to: gw_spd_view.self, capacity: 1)
    sources = SPDSources(root: memory, reclaimer: reclaimer)
    destinations = SPDDestinations(root: memory + 8, reclaimer: reclaimer)
    cells = HashIndex(seed: seed, reclaimer: reclaimer)
    priorities = SPDPriorities(lengths: Int(Key.bits) + 1)
    view.pointee.cells = UnsafeMutableRawPointer(cells.reader.root)
    view.pointee.priorities = priorities.words
  }

  var footprint: Int {
    let fanBytes = fans * MemoryLayout<gw_spd_fan>.stride + fanUses.capacity * 12
    return sources.footprint + destinations.footprint + cells.footprint + fanBytes
  }

  func publish() {
    sources.order.publish()
    destinations.order.publish()
    guard !unlinked.isEmpty else { return }
    let ready = unlinked
    unlinked = []
    reclaimer.retire { for free in ready { free() } }
  }

  // MARK: Insert

  func insert(_ policy: Policy) {
    policy.pointee.next = nil
    destinations.insert(Self.destination(policy))
    let prefix = Self.source(policy)
    let node = sources.find(prefix) ?? sources.insert(prefix)
    let rank = policy.pointee.rank
    priorities.insert(rank, length: prefix.length)
    if rank < node.pointee.rank { node.rankAtomic.pointee.store(rank, ordering: .relaxed) }
    if rank >> 63 == 0 { node.pointee.prioritised += 1 }
    guard let cell = find(policy, node) else { return addCell(policy, node) }
    // Of equal ranks the older one first.
    guard rank < cell.pointee.rank else { return link(policy, behind: cell) }
    policy.pointee.next = cell
    replace(cell, by: policy, node)
  }

  private func link(_ policy: Policy, behind first: Policy) {
    var before = first
    while let next = before.pointee.next, next.pointee.rank <= policy.pointee.rank { before = next }
    policy.pointee.next = before.pointee.next
    before.nextAtomic.pointee.store(policy, ordering: .releasing)
  }

  private func addCell(_ policy: Policy, _ node: Node) {
    node.pointee.cell_count += 1
    guard node.fan == nil else { return addToFan(policy, node) }
    if let place = (0..<gw_spd_node.capacity).first(where: { node.cellAtomic($0).pointee.load(ordering: .relaxed) == 0 }
    ) {
      node.cellAtomic(place).pointee.store(word(policy), ordering: .releasing)
      let cells = UInt64(place + 1) << 1 | 1
      if cells > node.pointee.cells { node.cellsAtomic.pointee.store(cells, ordering: .releasing) }
    } else {
      makeFan(node)
      addToFan(policy, node)
    }
  }

  /// Readers that came before find the cells where they stood.
  private func makeFan(_ node: Node) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<gw_spd_fan>.stride, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<gw_spd_fan>.stride)
    fans += 1
    let standing = (0..<gw_spd_node.capacity).map {
      SPDCells.policy(node.cellAtomic($0).pointee.load(ordering: .relaxed))
    }
    let fan = memory.assumingMemoryBound(to: gw_spd_fan.self)
    var flags: UInt64 = 0
    for cell in standing { flags |= add(cell, to: fan, of: node) }
    node.cellsAtomic.pointee.store(flags << 48 | UInt64(UInt(bitPattern: memory)), ordering: .releasing)
  }

  private func addToFan(_ policy: Policy, _ node: Node) {
    guard let fan = node.fan else { return }
    let flags = add(policy, to: fan, of: node) << 48
    if node.pointee.cells & flags == 0 { node.cellsAtomic.pointee.bitwiseOr(flags, ordering: .releasing) }
  }

  /// Returns the bit of its flags.
  private func add(_ policy: Policy, to fan: UnsafeMutablePointer<gw_spd_fan>, of node: Node) -> UInt64 {
    let flags = Self.flags(policy)
    let bit = Key.bit(ofLength: policy.pointee.destination_length)
    cells.insert(key: key(policy, node), value: UInt64(UInt(bitPattern: policy)))
    fanUses[Self.use(node, flags, bit), default: 0] += 1
    Self.lengths(fan, flags, bit).pointee.bitwiseOr(1 << UInt64(bit & 63), ordering: .releasing)
    return 1 << UInt64(flags)
  }

  // MARK: Remove

  func remove(_ policy: Policy) -> (() -> Void)? {
    let prefix = Self.source(policy)
    guard let node = sources.find(prefix), let first = find(policy, node) else { return nil }
    var release: (() -> Void)?
    if first != policy {
      var before = first
      while let next = before.pointee.next, next != policy { before = next }
      guard before.pointee.next == policy else { return nil }
      before.nextAtomic.pointee.store(policy.pointee.next, ordering: .releasing)
    } else if let next = policy.pointee.next {
      replace(policy, by: next, node)
    } else {
      release = removeCell(policy, node)
    }
    destinations.remove(Self.destination(policy))
    priorities.remove(policy.pointee.rank, length: prefix.length)
    if policy.pointee.rank >> 63 == 0 { node.pointee.prioritised -= 1 }
    if node.pointee.cell_count == 0 {
      drop(node)
    } else if policy.pointee.rank == node.pointee.rank {
      node.rankAtomic.pointee.store(rank(node), ordering: .relaxed)
    }
    return release ?? {}
  }

  private func removeCell(_ policy: Policy, _ node: Node) -> (() -> Void)? {
    node.pointee.cell_count -= 1
    guard let fan = node.fan else {
      if let place = place(of: policy, node) { node.cellAtomic(place).pointee.store(0, ordering: .relaxed) }
      return nil
    }
    let (flags, bit) = (Self.flags(policy), Key.bit(ofLength: policy.pointee.destination_length))
    let release = cells.remove(key: key(policy, node), value: UInt64(UInt(bitPattern: policy)))
    let use = Self.use(node, flags, bit)
    let left = (fanUses[use] ?? 1) - 1
    fanUses[use] = left == 0 ? nil : left
    if left == 0 { Self.lengths(fan, flags, bit).pointee.bitwiseAnd(~(1 << UInt64(bit & 63)), ordering: .relaxed) }
    return release
  }

  private func drop(_ node: Node) {
    sources.remove(node)
    let fan = node.fan
    if fan != nil { fans -= 1 }
    unlinked.append { [sources] in
      if let fan { UnsafeMutableRawPointer(fan).deallocate() }
      sources.free(node)
    }
  }

  /// A bound for what is left: the best, or, for a node with many, less than that perhaps.
  private func rank(_ node: Node) -> UInt64 {
    guard node.fan == nil else {
      return node.pointee.prioritised > 0 ? node.pointee.rank : SPDReader.Search<Key>.bound(source: node.length)
    }
    return standing(node).map { $0.pointee.rank }.min() ?? .max
  }

  // MARK: Cells

  /// The first policy of the cell that this one is of.
  private func find(_ policy: Policy, _ node: Node) -> Policy? {
    guard node.fan != nil else { return standing(node).first { Self.isOneCell($0, policy) } }
    var found: Policy?
    _ = cells.reader.first(key: key(policy, node)) { value in
      let first = SPDCells.policy(value)
      guard Self.source(first) == Self.source(policy), Self.isOneCell(first, policy) else { return false }
      found = first
      return true
    }
    return found
  }

  private func standing(_ node: Node) -> [Policy] {
    (0..<gw_spd_node.capacity).compactMap { place in
      let word = node.cellAtomic(place).pointee.load(ordering: .relaxed)
      return word == 0 ? nil : SPDCells.policy(word)
    }
  }

  private func place(of first: Policy, _ node: Node) -> Int? {
    (0..<gw_spd_node.capacity).first { node.cellAtomic($0).pointee.load(ordering: .relaxed) == word(first) }
  }

  private func replace(_ first: Policy, by new: Policy, _ node: Node) {
    if node.fan != nil {
      let (old, new) = (UInt64(UInt(bitPattern: first)), UInt64(UInt(bitPattern: new)))
      _ = cells.replace(key: key(first, node), value: old, by: new)
    } else if let place = place(of: first, node) {
      node.cellAtomic(place).pointee.store(word(new), ordering: .releasing)
    }
  }

  private func word(_ policy: Policy) -> UInt64 {
    SPDCells.word(
      policy, Self.destination(policy).address, bit: Key.bit(ofLength: policy.pointee.destination_length))
  }

  private func key(_ policy: Policy, _ node: Node) -> UInt64 {
    let upper = SPDCells.upper(
      UInt32(Self.flags(policy)), ipProtocol: policy.pointee.ip_protocol, sourcePort: policy.pointee.source_port_low,
      destinationPort: policy.pointee.destination_port_low)
    return SPDCells.key(
      node, Self.destination(policy).address, length: policy.pointee.destination_length, upper: upper)
  }

  private static func use(_ node: Node, _ flags: Int, _ bit: Int) -> UInt64 {
    UInt64(UInt(bitPattern: node)) << 16 | UInt64(flags) << 8 | UInt64(bit)
  }

  private static func lengths(
    _ fan: UnsafeMutablePointer<gw_spd_fan>, _ flags: Int, _ bit: Int
  ) -> UnsafeMutablePointer<Atomic<UInt64>> {
    atomicField(UnsafeMutableRawPointer(fan), bit / 64 * 64 + flags * 8)
  }

  // MARK: Selectors

  private static func source(_ policy: Policy) -> PrefixName<Key> {
    PrefixName(
      Key(high: policy.pointee.source_high, low: policy.pointee.source_low), policy.pointee.source_length)
  }

  private static func destination(_ policy: Policy) -> PrefixName<Key> {
    PrefixName(
      Key(high: policy.pointee.destination_high, low: policy.pointee.destination_low),
      policy.pointee.destination_length)
  }

  /// `gw_cell_flag`s: what the selector names exactly.
  private static func flags(_ policy: Policy) -> Int {
    var flags = policy.pointee.any_protocol == 0 ? GW_CELL_PROTOCOL.rawValue : 0
    if policy.pointee.source_port_low == policy.pointee.source_port_high { flags |= GW_CELL_SOURCE_PORT.rawValue }
    if policy.pointee.destination_port_low == policy.pointee.destination_port_high {
      flags |= GW_CELL_DESTINATION_PORT.rawValue
    }
    return Int(flags)
  }

  /// For policies of one source prefix.
  private static func isOneCell(_ a: Policy, _ b: Policy) -> Bool {
    let flags = flags(a)
    guard destination(a) == destination(b), flags == Self.flags(b) else { return false }
    func upper(_ policy: Policy) -> UInt64 {
      SPDCells.upper(
        UInt32(flags), ipProtocol: policy.pointee.ip_protocol, sourcePort: policy.pointee.source_port_low,
        destinationPort: policy.pointee.destination_port_low)
    }
    return upper(a) == upper(b)
  }
}
