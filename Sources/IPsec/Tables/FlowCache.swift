import CLayout

/// A worker's exact-match cache of what was decided for a flow, before the SPD is asked. Two-way set associative; an
/// entry is one cache line. Owned by one worker: nothing here is shared. A plain value; copies speak of the same
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
    let (source, destination, rest) = (key.pointee.source_low, key.pointee.destination_low, rest(key))
    var hash = (source << 32 | source >> 32) ^ destination
    if isIPv6 {
      hash ^= (key.pointee.source_high &* 0xa24b_aed4_963e_e407) ^ (key.pointee.destination_high << 21)
    }
    hash = (hash ^ (rest &* 0x9fb2_1c65_1e98_df25)) &* 0x9e37_79b9_7f4a_7c15
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
    return nil
  }

  /// Keeps a decision as the newest of its set. The caller may add to the entry.
  @inlinable
  @discardableResult
  public func insert(
    _ key: UnsafePointer<gw_flow_key>, hash: UInt64, generation: UInt32, policy: UnsafeMutablePointer<gw_policy>?,
    adjacency: UInt32 = 0, action: UInt8 = 0, saSerial: UInt32 = 0
  ) -> UnsafeMutablePointer<gw_flow_entry> {
    let entry = set(hash)
    // The set is in order of age; one that was decided anew is not there twice.
    if Self.isLive(entry, generation), !Self.isEntry(entry, of: key) { (entry + 1).pointee = entry.pointee }
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

  @inlinable @inline(__always)
  static func isLive(_ entry: UnsafeMutablePointer<gw_flow_entry>, _ generation: UInt32) -> Bool {
    entry.pointee.in_use != 0 && entry.pointee.generation == generation
  }

  /// Ports, protocol, family, flags and direction in one word; equal keys, and no others, have equal words.
  @inlinable @inline(__always)
  static func rest(_ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    UnsafeRawPointer(key).load(fromByteOffset: 32, as: UInt64.self)
  }

  @inlinable @inline(__always)
  static func isEntry(_ entry: UnsafeMutablePointer<gw_flow_entry>, of key: UnsafePointer<gw_flow_key>) -> Bool {
    let words = UnsafeRawPointer(entry)
    var wrong = words.load(fromByteOffset: 32, as: UInt64.self) ^ rest(key)
    wrong |= words.load(fromByteOffset: 8, as: UInt64.self) ^ key.pointee.source_low
    wrong |= words.load(fromByteOffset: 24, as: UInt64.self) ^ key.pointee.destination_low
    if key.pointee.family == 10 {
      wrong |= words.load(as: UInt64.self) ^ key.pointee.source_high
      wrong |= words.load(fromByteOffset: 16, as: UInt64.self) ^ key.pointee.destination_high
    }
    return wrong == 0
  }

  /// Entries for at least `flows`: a power of two.
  private static func count(_ flows: Int) -> Int {
    var count = 2
    while count < flows { count *= 2 }
    return count
  }
}
