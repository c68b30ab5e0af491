import CLayout
import Synchronization

/// A hash table from 64-bit keys to 64-bit values, several of one key allowed: one writer, any number of readers that
/// take no lock. What SAD and SPD are built on.
///
/// Memory: a root word that points to the storage in use; a storage is one cache line of header (the bucket mask) and
/// a power of two of buckets. A bucket is a cache line: four values, then their four keys. Values up to `largestMark`
/// mean an unused slot; others are the caller's and hold a pointer in their low 48 bits.
///
/// Invariants that let readers go without a lock:
///  - a reader loads a slot's value (acquire) before its key; a slot is filled key first, then value (release);
///  - the key of a slot that was emptied changes only after a grace period, so whoever holds the value has its key;
///  - a search goes on to the next bucket only if the last slot of this one is not 0. An entry lies beyond its home
///    bucket only if every slot on the way was taken; `overflows` counts such entries, and while it is not 0 the last
///    slot of that bucket stays marked.
public struct HashIndexReader: @unchecked Sendable {
  @usableFromInline let root: UnsafeMutablePointer<Atomic<UInt>>
  @usableFromInline let seed: UInt64

  @inlinable init(root: UnsafeMutablePointer<Atomic<UInt>>, seed: UInt64) {
    self.root = root
    self.seed = seed
  }

  @inlinable static var largestMark: UInt64 { 2 }
  @inlinable static var bucketBytes: Int { 64 }

  @inlinable @inline(__always)
  static func spread(_ key: UInt64, seed: UInt64) -> Int {
    var hash = (key ^ seed) &* 0x9e37_79b9_7f4a_7c15
    hash ^= hash >> 32
    hash = hash &* 0xd6e8_feb8_6659_fd93
    return Int(truncatingIfNeeded: hash >> 28)
  }

  /// Bytes of buckets, of which most are read in random order.
  @inlinable @inline(__always)
  var size: Int {
    let storage = UnsafeMutableRawPointer(bitPattern: root.pointee.load(ordering: .acquiring)).unsafelyUnwrapped
    return (storage.load(as: Int.self) &+ 1) &* Self.bucketBytes
  }

  /// Brings the home bucket of a key near.
  @inlinable @inline(__always)
  func prefetch(key: UInt64) {
    let storage = UnsafeMutableRawPointer(bitPattern: root.pointee.load(ordering: .acquiring)).unsafelyUnwrapped
    let mask = storage.load(as: Int.self)
    crypto_prefetch(storage + ((Self.spread(key, seed: seed) & mask) &+ 1) &* Self.bucketBytes)
  }

  /// As `first`, for keys that seldom have several values.
  @inlinable @inline(__always)
  func only(key: UInt64, where isWanted: (UInt64) -> Bool) -> UInt64 {
    let storage = UnsafeMutableRawPointer(bitPattern: root.pointee.load(ordering: .acquiring)).unsafelyUnwrapped
    let home = Self.spread(key, seed: seed) & storage.load(as: Int.self)
    let slots = storage + (home &+ 1) &* Self.bucketBytes
    let slot = Self.likely(slots, key)
    let value = Self.value(slots, slot)
    if value > Self.largestMark, Self.key(slots, slot) == key, isWanted(value) { return value }
    return first(key: key, where: isWanted)
  }

  /// Where in a bucket the key stands, if it stands there once. Without a branch: no predictor knows the slot.
  @inlinable @inline(__always)
  static func likely(_ slots: UnsafeMutableRawPointer, _ key: UInt64) -> Int {
    func isKey(_ slot: Int) -> Int { Self.key(slots, slot) == key ? 1 : 0 }
    return isKey(1) | isKey(2) << 1 | isKey(3) &* 3
  }

  /// Calls `isWanted` with each value of the key until it says true; returns that value, else 0.
  @inlinable @inline(__always)
  func first(key: UInt64, where isWanted: (UInt64) -> Bool) -> UInt64 {
    let storage = UnsafeMutableRawPointer(bitPattern: root.pointee.load(ordering: .acquiring)).unsafelyUnwrapped
    let mask = storage.load(as: Int.self)
    var bucket = Self.spread(key, seed: seed) & mask
    while true {
      let slots = storage + (bucket &+ 1) &* Self.bucketBytes
      var last: UInt64 = 0
      var slot = 0
      while slot < 4 {
        last = Self.value(slots, slot)
        if last > Self.largestMark, Self.key(slots, slot) == key, isWanted(last) { return last }
        slot &+= 1
      }
      if last == 0 { return 0 }
      bucket = (bucket &+ 1) & mask
    }
  }

  @inlinable @inline(__always)
  static func value(_ slots: UnsafeMutableRawPointer, _ slot: Int) -> UInt64 {
    atomicField(slots, slot &* 8, as: UInt64.self).pointee.load(ordering: .acquiring)
  }

  @inlinable @inline(__always)
  static func key(_ slots: UnsafeMutableRawPointer, _ slot: Int) -> UInt64 {
    atomicField(slots, 32 &+ slot &* 8, as: UInt64.self).pointee.load(ordering: .relaxed)
  }
}

/// The writer's side of a `HashIndex`. Control thread only.
final class HashIndex {
  /// Unused slots: never used or free of any reader; free but kept marked; emptied, readers may still hold it.
  private static let free: UInt64 = 0
  private static let freeMarked: UInt64 = 1
  private static let inGrace: UInt64 = 2

  private let root: UnsafeMutablePointer<Atomic<UInt>>
  private let seed: UInt64
  private var storage: Storage
  private let reclaimer: any Reclaimer
  /// Entries that stand.
  private(set) var count = 0

  /// - Parameter capacity: entries that fit before it first grows.
  init(capacity: Int = 0, seed: UInt64, reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    self.seed = seed
    storage = Storage(buckets: Storage.buckets(for: capacity))
    root = .allocate(capacity: 1)
    root.initialize(to: Atomic(UInt(bitPattern: storage.base)))
  }

  /// No reader may be left.
  deinit { root.deallocate() }

  var reader: HashIndexReader { HashIndexReader(root: root, seed: seed) }

  /// Bytes held.
  var footprint: Int { (storage.mask + 2) * HashIndexReader.bucketBytes + (storage.mask + 1) * 4 }

  func insert(key: UInt64, value: UInt64) {
    precondition(value > HashIndexReader.largestMark)
    if storage.taken >= storage.limit { grow() }
    storage.insert(key: key, value: value, home: HashIndexReader.spread(key, seed: seed))
    count += 1
  }

  /// Swaps the value of an entry, seen by readers as the one or the other. False if there is no such entry.
  func replace(key: UInt64, value: UInt64, by new: UInt64) -> Bool {
    guard let place = storage.find(key: key, value: value, home: HashIndexReader.spread(key, seed: seed)) else {
      return false
    }
    storage.value(place).pointee.store(new, ordering: .releasing)
    return true
  }

  /// Takes an entry out. Nil if there is no such entry; else what must be called, on this thread, when no reader can
  /// hold the value any more: the slot is used again only then.
  func remove(key: UInt64, value: UInt64) -> (() -> Void)? {
    let storage = storage
    let home = HashIndexReader.spread(key, seed: seed)
    guard let place = storage.find(key: key, value: value, home: home) else { return nil }
    storage.value(place).pointee.store(Self.inGrace, ordering: .releasing)
    count -= 1
    return { storage.release(place, home: home) }
  }

  private func grow() {
    let old = storage
    let new = Storage(buckets: Storage.buckets(for: max(count * 2, 2)))
    old.forEach { key, value in
      new.insert(key: key, value: value, home: HashIndexReader.spread(key, seed: seed))
    }
    storage = new
    root.pointee.store(UInt(bitPattern: new.base), ordering: .releasing)
    // Until then `old` is held by the closure.
    reclaimer.retire { withExtendedLifetime(old) {} }
  }

  /// One storage: memory that readers see and, beside it, the overflow counts that only the writer needs.
  private final class Storage {
    let base: UnsafeMutableRawPointer
    let mask: Int
    /// Entries that stand or are in grace.
    private(set) var taken = 0
    private var overflows: [UInt32]

    static func buckets(for entries: Int) -> Int {
      var buckets = 1
      while buckets * 2 < entries { buckets *= 2 }
      return buckets
    }

    init(buckets: Int) {
      mask = buckets - 1
      let bytes = (buckets + 1) * HashIndexReader.bucketBytes
      base = .allocate(byteCount: bytes, alignment: HashIndexReader.bucketBytes)
      base.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
      base.storeBytes(of: mask, as: Int.self)
      overflows = Array(repeating: 0, count: buckets)
    }

    deinit { base.deallocate() }

    /// Half of the slots.
    var limit: Int { (mask + 1) * 2 }

    func value(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
      atomicField(slots(place), place % 4 * 8)
    }

    private func key(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
      atomicField(slots(place), 32 + place % 4 * 8)
    }

    private func slots(_ place: Int) -> UnsafeMutableRawPointer {
      base + (place / 4 + 1) * HashIndexReader.bucketBytes
    }

    func find(key wanted: UInt64, value: UInt64, home: Int) -> Int? {
      var bucket = home & mask
      while true {
        for place in bucket * 4..<bucket * 4 + 4
        where self.value(place).pointee.load(ordering: .relaxed) == value
          && key(place).pointee.load(ordering: .relaxed) == wanted
        {
          return place
        }
        if self.value(bucket * 4 + 3).pointee.load(ordering: .relaxed) == HashIndex.free { return nil }
        bucket = (bucket + 1) & mask
      }
    }

    func insert(key: UInt64, value: UInt64, home: Int) {
      var bucket = home & mask
      while true {
        for place in bucket * 4..<bucket * 4 + 4
        where self.value(place).pointee.load(ordering: .relaxed) < HashIndex.inGrace {
          self.key(place).pointee.store(key, ordering: .relaxed)
          self.value(place).pointee.store(value, ordering: .releasing)
          taken += 1
          return
        }
        overflows[bucket] += 1
        bucket = (bucket + 1) & mask
      }
    }

    /// The grace period of an emptied slot is over.
    func release(_ place: Int, home: Int) {
      taken -= 1
      value(place).pointee.store(HashIndex.freeMarked, ordering: .releasing)
      var bucket = home & mask
      while bucket != place / 4 {
        overflows[bucket] -= 1
        unmark(bucket)
        bucket = (bucket + 1) & mask
      }
      unmark(bucket)
    }

    /// Lets searches end at a bucket that nothing overflowed from.
    private func unmark(_ bucket: Int) {
      let last = value(bucket * 4 + 3)
      guard overflows[bucket] == 0, last.pointee.load(ordering: .relaxed) == HashIndex.freeMarked else { return }
      last.pointee.store(HashIndex.free, ordering: .releasing)
    }

    func forEach(_ body: (UInt64, UInt64) -> Void) {
      for place in 0..<(mask + 1) * 4 {
        let value = value(place).pointee.load(ordering: .relaxed)
        if value > HashIndexReader.largestMark { body(key(place).pointee.load(ordering: .relaxed), value) }
      }
    }
  }
}
