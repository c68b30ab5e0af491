import CLayout

/// A worker's exact-match cache of what was decided for a flow, before the SPD is asked. Sets of two entries, and two sets
/// that a flow may be in: with one, a cache that is a sixteenth full has flows already that put each other out for ever.
/// An entry is one cache line. Owned by one worker: nothing here is shared. A plain value; copies speak of the same
/// memory.
public struct FlowCache: @unchecked Sendable {
  @usableFromInline let entries: UnsafeMutablePointer<gw_flow_entry>
  /// Sets less one.
  @usableFromInline let mask: Int

  /// Memory of `bytes(flows:)` bytes, aligned to 64, that the caller owns: NUMA-local, say.
  public init(memory: UnsafeMutableRawPointer, flows: Int) {
    let count = Self.count(flows)
    entries = memory.bindMemory(to: gw_flow_entry.self, capacity: count)
    mask = count / 2 - 1
    entries.initialize(repeating: gw_flow_entry(), count: count)
  }

  /// Allocates; `deallocate` frees.
  public init(flows: Int) {
    self.init(memory: .allocate(byteCount: Self.bytes(flows: flows), alignment: 64), flows: flows)
  }

  public func deallocate() { UnsafeMutableRawPointer(entries).deallocate() }

  public static func bytes(flows: Int) -> Int { count(flows) * MemoryLayout<gw_flow_entry>.stride }

  /// Forgets everything.
  public func clear() { entries.update(repeating: gw_flow_entry(), count: (mask + 1) * 2) }

  /// A hash of all of a key; the same for IPv4 and IPv6.
  @inlinable @inline(__always)
  public static func hash(_ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    hash(key, isIPv6: key.pointee.family == 10)
  }

  /// Of a key whose family the caller knows.
  @inlinable @inline(__always)
  public static func hash(_ key: UnsafePointer<gw_flow_key>, isIPv6: Bool) -> UInt64 {
    let rest = rest(key)
    let (source, destination) = (key.pointee.source_low, key.pointee.destination_low)
    let low = (source << 32 | source >> 32) ^ destination
    guard isIPv6 else { return hash(addresses: low, rest) }
    let high = (key.pointee.source_high &* 0xa24b_aed4_963e_e407) ^ (key.pointee.destination_high << 21)
    return hash(addresses: low ^ high, rest)
  }

  /// Of an IPv4 key by its addresses, the source above, the destination below, and what `rest` gives.
  @inlinable @inline(__always)
  public static func hash(addresses: UInt64, _ rest: UInt64) -> UInt64 {
    let hash = (addresses ^ (rest &* 0x9fb2_1c65_1e98_df25)) &* 0x9e37_79b9_7f4a_7c15
    return hash ^ hash >> 32
  }

  /// Brings near the line that `lookup` reads first.
  @inlinable @inline(__always)
  public func prefetch(_ hash: UInt64) { crypto_prefetch(set(hash)) }

  /// The entry of this key (its family is 2 or 10), decided on tables of this generation; nil: look it up and `insert`
  /// it.
  @inlinable @inline(__always)
  public func lookup(
    _ key: UnsafePointer<gw_flow_key>, hash: UInt64, generation: UInt32
  ) -> UnsafeMutablePointer<gw_flow_entry>? {
    let first = set(hash)
    if first.pointee.generation == generation, Self.isEntry(first, of: key) { return first }
    let second = first + 1
    if second.pointee.generation == generation, Self.isEntry(second, of: key) { return second }
    return lookupFar(key, hash: hash, generation: generation)
  }

  /// A flow is there only if its first set was full.
  @usableFromInline @inline(never)
  func lookupFar(
    _ key: UnsafePointer<gw_flow_key>, hash: UInt64, generation: UInt32
  ) -> UnsafeMutablePointer<gw_flow_entry>? {
    guard Self.isFull(set(hash), generation), let entry = Self.known(farSet(hash), key),
      entry.pointee.generation == generation
    else { return nil }
    return entry
  }

  /// Keeps a decision as the newest of its set. The caller may add to the entry.
  @discardableResult
  public func insert(
    _ key: UnsafePointer<gw_flow_key>, hash: UInt64, generation: UInt32, policy: UnsafeMutablePointer<gw_policy>?,
    adjacency: UInt32 = 0, action: UInt8 = 0, saSerial: UInt32 = 0
  ) -> UnsafeMutablePointer<gw_flow_entry> {
    let near = set(hash)
    let entry = Self.known(near, key) ?? makeRoom(near, for: key, hash, generation)
    entry.pointee.key = key.pointee
    entry.pointee.policy = policy
    entry.pointee.generation = generation
    entry.pointee.adjacency = adjacency
    entry.pointee.sa_serial = saSerial
    entry.pointee.action = action
    entry.pointee.in_use = 1
    return entry
  }

  @inlinable @inline(__always)
  func set(_ hash: UInt64) -> UnsafeMutablePointer<gw_flow_entry> {
    entries + (Int(truncatingIfNeeded: hash) & mask) &* 2
  }

  /// The other set of a flow, by what the first one is not chosen by: flows that share that one seldom share this one too.
  private func farSet(_ hash: UInt64) -> UnsafeMutablePointer<gw_flow_entry> {
    set((hash &* 0x9e37_79b9_7f4a_7c15) >> 32)
  }

  /// Of a set the entry of this key, of whatever generation.
  private static func known(
    _ set: UnsafeMutablePointer<gw_flow_entry>, _ key: UnsafePointer<gw_flow_key>
  ) -> UnsafeMutablePointer<gw_flow_entry>? {
    isEntry(set, of: key) ? set : isEntry(set + 1, of: key) ? set + 1 : nil
  }

  /// A place for an entry that its first set has not: there, before the older one, unless it is full. Then in the other
  /// set, if that has it or has room; else the oldest of the first gives way.
  private func makeRoom(
    _ near: UnsafeMutablePointer<gw_flow_entry>, for key: UnsafePointer<gw_flow_key>, _ hash: UInt64,
    _ generation: UInt32
  ) -> UnsafeMutablePointer<gw_flow_entry> {
    var place = near
    if Self.isFull(near, generation) {
      let far = farSet(hash)
      if let entry = Self.known(far, key) { return entry }
      if !Self.isFull(far, generation) { place = far }
    }
    if Self.isLive(place, generation) { (place + 1).pointee = place.pointee }
    return place
  }

  private static func isFull(_ set: UnsafeMutablePointer<gw_flow_entry>, _ generation: UInt32) -> Bool {
    isLive(set, generation) && isLive(set + 1, generation)
  }

  private static func isLive(_ entry: UnsafeMutablePointer<gw_flow_entry>, _ generation: UInt32) -> Bool {
    entry.pointee.in_use != 0 && entry.pointee.generation == generation
  }

  /// Ports, protocol, family, flags and direction in one word; equal keys, and no others, have equal words.
  @inlinable @inline(__always)
  public static func rest(_ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    UnsafeRawPointer(key).load(fromByteOffset: 32, as: UInt64.self)
  }

  @inlinable @inline(__always)
  static func isEntry(_ entry: UnsafeMutablePointer<gw_flow_entry>, of key: UnsafePointer<gw_flow_key>) -> Bool {
    let words = UnsafeRawPointer(entry)
    let rest = rest(key)
    var wrong = words.load(fromByteOffset: 32, as: UInt64.self) ^ rest
    wrong |= words.load(fromByteOffset: 8, as: UInt64.self) ^ key.pointee.source_low
    wrong |= words.load(fromByteOffset: 24, as: UInt64.self) ^ key.pointee.destination_low
    guard wrong == 0 else { return false }
    // The bit by which family 10 differs from 2.
    if rest & 8 << 40 == 0 { return true }
    wrong = words.load(as: UInt64.self) ^ key.pointee.source_high
    wrong |= words.load(fromByteOffset: 16, as: UInt64.self) ^ key.pointee.destination_high
    return wrong == 0
  }

  /// Entries for at least `flows`: a power of two.
  private static func count(_ flows: Int) -> Int {
    var count = 2
    while count < flows { count *= 2 }
    return count
  }
}
