import CLayout
import Glibc
import Synchronization

/// The policies of one direction and family, the writer's side. Control thread only.
final class SPDView<Key: PrefixKey> {
  typealias Policy = UnsafeMutablePointer<gw_policy>
  typealias Node = UnsafeMutablePointer<gw_spd_node>

  private let view: UnsafeMutablePointer<gw_spd_view>
  private let reclaimer: any Reclaimer
  private let sources: SPDSources<Key>
  private let destinations: SPDPrefixes<Key>
  private let priorities: SPDPriorities
  /// The cells of nodes with many.
  private let cells: HashIndex
  /// Cells by (fan's node : 48, flags or `plain` : 8, bit of the destination length : 8).
  private var fanUses: [UInt64: UInt32] = [:]
  private var fans = 0
  private static var plain: Int { 8 }
  /// So many cells of a pair of prefixes go by it alone; what comes then goes by protocol and ports, too.
  private static var plainCells: Int { 8 }
  /// Readers do not see all that was inserted.
  private var hidesPolicies = false
  /// To be freed after what no longer leads to it is published.
  private var unlinked: [() -> Void] = []

  /// - Parameter memory: of one zeroed `gw_spd_view`; the caller's.
  init(_ memory: UnsafeMutableRawPointer, seed: UInt64, reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    view = memory.bindMemory(to: gw_spd_view.self, capacity: 1)
    sources = SPDSources(root: memory, reclaimer: reclaimer)
    destinations = SPDPrefixes(root: memory + SPDReader.destinationsOffset, reclaimer: reclaimer)
    cells = HashIndex(seed: seed, reclaimer: reclaimer)
    priorities = SPDPriorities(lengths: Int(Key.bits) + 1)
    view.pointee.cells = UnsafeMutableRawPointer(cells.reader.root)
    view.pointee.priorities = priorities.words
  }

  var footprint: Int {
    let fanBytes = fans * Self.fanBytes + fanUses.capacity * 12
    return sources.footprint + destinations.footprint + cells.footprint + fanBytes
  }

  /// Shows readers what changed, as far as they did not see it already.
  func publish() {
    sources.order.publish()
    destinations.order.publish()
    hidesPolicies = false
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
    if sources.order.isChanged || destinations.order.isChanged { hidesPolicies = true }
    let rank = policy.pointee.rank
    priorities.insert(rank, length: prefix.length)
    if rank < node.pointee.rank { node.rankAtomic.pointee.store(rank, ordering: .relaxed) }
    if rank >> 63 == 0 { node.prioritised.pointee += 1 }
    if let fan = node.fan { note(priorityOf: policy, fan) }
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
    node.cellCount.pointee += 1
    guard node.fan == nil else { return addToFan(policy, node) }
    if let place = (0..<gw_spd_node.capacity).first(where: { node.cellAtomic($0).pointee.load(ordering: .relaxed) == 0 }
    ) {
      node.cellAtomic(place).pointee.store(word(policy), ordering: .releasing)
      let cells = UInt64(place + 1) << 1 | 1
      if cells > node.pointee.cells { node.cellsAtomic.pointee.store(cells, ordering: .releasing) }
    } else {
      makeFan(node)
      if let fan = node.fan { note(priorityOf: policy, fan) }
      addToFan(policy, node)
    }
  }

  private func note(priorityOf policy: Policy, _ fan: UnsafeMutablePointer<gw_spd_fan>) {
    guard policy.pointee.rank >> 63 == 0 else { return }
    let field = Self.priority(fan, Key.bit(ofLength: policy.pointee.destination_length))
    let priority = UInt32(truncatingIfNeeded: policy.pointee.rank >> 31)
    if priority < field.pointee.load(ordering: .relaxed) { field.pointee.store(priority, ordering: .relaxed) }
  }

  /// With a priority for each bit of a length.
  private static var fanBytes: Int { MemoryLayout<gw_spd_fan>.stride + (Key.bit(ofLength: Key.bits) + 1) * 4 }

  /// Readers that came before find the cells where they stood.
  private func makeFan(_ node: Node) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.fanBytes, alignment: 64)
    let header = MemoryLayout<gw_spd_fan>.stride
    memset(memory, 0, header)
    memset(memory + header, 0xff, Self.fanBytes - header)
    fans += 1
    let standing = (0..<gw_spd_node.capacity).map {
      SPDCells.policy(node.cellAtomic($0).pointee.load(ordering: .relaxed))
    }
    let fan = memory.assumingMemoryBound(to: gw_spd_fan.self)
    var flags: UInt64 = 0
    for cell in standing {
      flags |= add(cell, to: fan, of: node)
      // The first of a cell has its lowest rank.
      note(priorityOf: cell, fan)
    }
    node.cellsAtomic.pointee.store(flags << 48 | UInt64(UInt(bitPattern: memory)), ordering: .releasing)
  }

  private func addToFan(_ policy: Policy, _ node: Node) {
    guard let fan = node.fan else { return }
    let flags = add(policy, to: fan, of: node) << 48
    if node.pointee.cells & flags != flags { node.cellsAtomic.pointee.bitwiseOr(flags, ordering: .releasing) }
  }

  /// Returns the bit of its flags if it goes by them.
  private func add(_ policy: Policy, to fan: UnsafeMutablePointer<gw_spd_fan>, of node: Node) -> UInt64 {
    let flags = Self.flags(policy)
    let bit = Key.bit(ofLength: policy.pointee.destination_length)
    let pair = pairKey(policy, node)
    let isPlain = plainCells(pair) < Self.plainCells
    cells.insert(key: isPlain ? pair : namedKey(policy, node), value: Self.value(policy))
    fanUses[Self.use(node, isPlain ? Self.plain : flags, bit), default: 0] += 1
    if isPlain {
      let mark = SPDCells.mark(pair)
      Self.word(fan, 2 + mark.word).pointee.bitwiseOr(mark.bit, ordering: .releasing)
    }
    Self.lengths(fan, isPlain ? Self.plain : flags, bit).pointee.bitwiseOr(1 << UInt64(bit & 63), ordering: .releasing)
    return isPlain ? 0 : 1 << UInt64(flags)
  }

  private func plainCells(_ pair: UInt64) -> Int {
    var count = 0
    _ = cells.reader.first(key: pair) { _ in
      count += 1
      return false
    }
    return count
  }

  // MARK: Remove

  /// Nil if the policy is not here; else what must be called when no reader can hold it.
  func remove(_ policy: Policy) -> (() -> Void)? {
    let prefix = Self.source(policy)
    guard let node = sources.find(prefix), let first = find(policy, node) else { return nil }
    // What takes its place must be there before it goes.
    if hidesPolicies { publish() }
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
    if policy.pointee.rank >> 63 == 0 { node.prioritised.pointee -= 1 }
    if node.cellCount.pointee == 0 {
      drop(node)
    } else if policy.pointee.rank == node.pointee.rank {
      node.rankAtomic.pointee.store(rank(node), ordering: .relaxed)
    }
    return release ?? {}
  }

  private func removeCell(_ policy: Policy, _ node: Node) -> (() -> Void)? {
    node.cellCount.pointee -= 1
    guard let fan = node.fan else {
      if let place = place(of: policy, node) { node.cellAtomic(place).pointee.store(0, ordering: .relaxed) }
      return nil
    }
    let bit = Key.bit(ofLength: policy.pointee.destination_length)
    let plainRelease = cells.remove(key: pairKey(policy, node), value: Self.value(policy))
    let release = plainRelease ?? cells.remove(key: namedKey(policy, node), value: Self.value(policy))
    let flags = plainRelease == nil ? Self.flags(policy) : Self.plain
    let use = Self.use(node, flags, bit)
    let left = (fanUses[use] ?? 1) - 1
    fanUses[use] = left == 0 ? nil : left
    guard left == 0 else { return release }
    Self.lengths(fan, flags, bit).pointee.bitwiseAnd(~(1 << UInt64(bit & 63)), ordering: .relaxed)
    let isLast = (0...Self.plain).allSatisfy { fanUses[Self.use(node, $0, bit)] == nil }
    if isLast { Self.priority(fan, bit).pointee.store(.max, ordering: .relaxed) }
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
      return node.prioritised.pointee > 0 ? node.pointee.rank : SPDReader.Search<Key>.bound(source: node.length)
    }
    return standing(node).map { $0.pointee.rank }.min() ?? .max
  }

  // MARK: Cells

  /// The first policy of the cell that this one is of.
  private func find(_ policy: Policy, _ node: Node) -> Policy? {
    guard node.fan != nil else { return standing(node).first { Self.isOneCell($0, policy) } }
    return find(policy, key: pairKey(policy, node)) ?? find(policy, key: namedKey(policy, node))
  }

  private func find(_ policy: Policy, key: UInt64) -> Policy? {
    var found: Policy?
    _ = cells.reader.first(key: key) { value in
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
      let (old, new) = (Self.value(first), Self.value(new))
      _ =
        cells.replace(key: pairKey(first, node), value: old, by: new)
        || cells.replace(key: namedKey(first, node), value: old, by: new)
    } else if let place = place(of: first, node) {
      node.cellAtomic(place).pointee.store(word(new), ordering: .releasing)
    }
  }

  private func word(_ policy: Policy) -> UInt64 {
    SPDCells.word(
      policy, Self.destination(policy).address, bit: Key.bit(ofLength: policy.pointee.destination_length))
  }

  private func pairKey(_ policy: Policy, _ node: Node) -> UInt64 { key(policy, node, upper: 0) }

  private func namedKey(_ policy: Policy, _ node: Node) -> UInt64 {
    key(policy, node, upper: SPDCells.named | Self.upper(policy))
  }

  private func key(_ policy: Policy, _ node: Node, upper: UInt64) -> UInt64 {
    SPDCells.key(node, Self.destination(policy).address, length: policy.pointee.destination_length, upper: upper)
  }

  private static func value(_ policy: Policy) -> UInt64 {
    SPDCells.value(policy, flags: UInt32(flags(policy)), upper: upper(policy))
  }

  private static func use(_ node: Node, _ flags: Int, _ bit: Int) -> UInt64 {
    UInt64(UInt(bitPattern: node)) << 16 | UInt64(flags) << 8 | UInt64(bit)
  }

  private static func lengths(
    _ fan: UnsafeMutablePointer<gw_spd_fan>, _ flags: Int, _ bit: Int
  ) -> UnsafeMutablePointer<Atomic<UInt64>> {
    word(fan, flags == plain ? bit / 64 : 8 + bit / 64 * 8 + flags)
  }

  private static func priority(
    _ fan: UnsafeMutablePointer<gw_spd_fan>, _ bit: Int
  ) -> UnsafeMutablePointer<Atomic<UInt32>> {
    atomicField(UnsafeMutableRawPointer(fan + 1), bit * 4)
  }

  private static func word(
    _ fan: UnsafeMutablePointer<gw_spd_fan>, _ place: Int
  ) -> UnsafeMutablePointer<Atomic<UInt64>> {
    atomicField(UnsafeMutableRawPointer(fan), place * 8)
  }

  // MARK: Selectors

  static func source(_ policy: Policy) -> PrefixName<Key> {
    PrefixName(
      Key(high: policy.pointee.source_high, low: policy.pointee.source_low), policy.pointee.source_length)
  }

  static func destination(_ policy: Policy) -> PrefixName<Key> {
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

  /// What it names of protocol and ports.
  private static func upper(_ policy: Policy) -> UInt64 {
    SPDCells.upper(
      UInt32(flags(policy)), ipProtocol: policy.pointee.ip_protocol, sourcePort: policy.pointee.source_port_low,
      destinationPort: policy.pointee.destination_port_low)
  }

  /// For policies of one source prefix.
  private static func isOneCell(_ a: Policy, _ b: Policy) -> Bool {
    destination(a) == destination(b) && upper(a) == upper(b)
  }
}
