import CLayout
import Glibc
import Synchronization

/// Addresses in order, each with a word or two, as workers see them: the greatest address that is not above a packet's.
/// Of the prefixes in use every one that covers the packet's address covers that one, too: it starts between the two.
///
/// Memory: a root word points to the top (0: empty): a line with the number of chunks, the pointers to them, the first
/// address of each, and once more that of each 16th, both filled up to groups of 16 with the last. A chunk holds 256 addresses in 16 groups: the first address of each group, the
/// addresses, the words. Behind the last address in use that address stands again with its words, up to the end.
/// Addresses of a published chunk never change; its words may, one by one.
@usableFromInline
struct PrefixOrderReader<Key: PrefixKey> {
  @usableFromInline let root: UnsafeMutableRawPointer

  @inlinable @inline(__always)
  init(root: UnsafeMutableRawPointer) { self.root = root }

  @usableFromInline
  struct Place {
    @usableFromInline let address: Key
    @usableFromInline let words: UnsafeMutableRawPointer

    @inlinable @inline(__always)
    init(address: Key, words: UnsafeMutableRawPointer) {
      self.address = address
      self.words = words
    }
  }

  @inlinable static var groupCount: Int { 16 }
  @inlinable static var capacity: Int { 256 }
  @inlinable static var keyBytes: Int { MemoryLayout<Key>.stride }
  @inlinable static var keysOffset: Int { groupCount &* keyBytes }
  @inlinable static var wordsOffset: Int { keysOffset &+ capacity &* keyBytes }

  /// Up to whole groups.
  @inlinable @inline(__always)
  static func padded(_ count: Int) -> Int { (count &+ groupCount &- 1) & ~(groupCount &- 1) }

  @inlinable @inline(__always)
  func top() -> UnsafeMutableRawPointer? {
    UnsafeMutableRawPointer(bitPattern: atomicField(root, 0, as: UInt.self).pointee.load(ordering: .acquiring))
  }

  /// Of `words` to an address; nil if there is none that is not above.
  @inlinable @inline(__always)
  func floor(_ key: Key, words: Int) -> Place? {
    guard let top = top() else { return nil }
    let chunk = Self.chunk(top, key)
    let groups = Self.countNotAbove(key, chunk.assumingMemoryBound(to: Key.self))
    if groups == 0 { return nil }
    let group = (groups &- 1) &* Self.groupCount
    let wordBytes = words &* 8
    let keys = (chunk + Self.keysOffset + group &* Self.keyBytes).assumingMemoryBound(to: Key.self)
    let values = chunk + Self.wordsOffset + group &* wordBytes
    crypto_prefetch(values)
    crypto_prefetch(values + 64)
    let place = Self.countNotAbove(key, keys) &- 1
    return Place(address: keys[place], words: values + place &* wordBytes)
  }

  @inlinable @inline(__always)
  static func chunk(_ top: UnsafeMutableRawPointer, _ key: Key) -> UnsafeMutableRawPointer {
    let padded = padded(top.load(as: Int.self))
    let pointers = top + 64
    let firsts = (pointers + padded &* 8).assumingMemoryBound(to: Key.self)
    var coarse = firsts + padded
    let end = coarse + Self.padded(padded / groupCount)
    var group = -1
    while coarse < end {
      group &+= countNotAbove(key, coarse)
      coarse += groupCount
    }
    // Before all: the first. Behind all: what fills up the last group, which leads to the last.
    group = min(max(group, 0), padded / groupCount &- 1)
    let place = group &* groupCount &+ max(countNotAbove(key, firsts + group &* groupCount) &- 1, 0)
    let address = atomicField(pointers, place &* 8, as: UInt.self).pointee.load(ordering: .acquiring)
    return UnsafeMutableRawPointer(bitPattern: address).unsafelyUnwrapped
  }

  /// How many of 16 ordered addresses are not above `key`.
  @inlinable @inline(__always)
  static func countNotAbove(_ key: Key, _ keys: UnsafePointer<Key>) -> Int {
    var count: UInt32 = 0
    var i = 0
    while i < 16 {
      count &+= keys[i] <= key ? 1 : 0
      i &+= 1
    }
    return Int(count)
  }
}

/// The writer's side of `PrefixOrderReader`. Control thread only. What changes is seen by readers after `publish`, but
/// for words that are changed in place.
final class PrefixOrder<Key: PrefixKey> {
  private typealias Reader = PrefixOrderReader<Key>

  private struct Chunk {
    var base: UnsafeMutableRawPointer
    var count: Int
    var first: Key
    /// Not yet published: may be changed.
    var isFresh: Bool
  }

  private let words: Int
  private let root: UnsafeMutableRawPointer
  private let reclaimer: any Reclaimer
  private var chunks: [Chunk] = []
  private var top: UnsafeMutableRawPointer?
  /// The chunks are others or begin elsewhere: a new top is needed. Else `replaced` says which are made anew.
  private var isReshaped = false
  private var replaced: [Int] = []
  private var retired: [UnsafeMutableRawPointer] = []

  /// - Parameter root: the word that readers begin at; the caller's.
  init(words: Int, root: UnsafeMutableRawPointer, reclaimer: any Reclaimer) {
    self.words = words
    self.root = root
    self.reclaimer = reclaimer
  }

  /// No reader may be left.
  deinit {
    for chunk in chunks { chunk.base.deallocate() }
    for base in retired { base.deallocate() }
    top?.deallocate()
  }

  private var chunkBytes: Int { Reader.wordsOffset + Reader.capacity * words * 8 }

  /// Bytes held.
  var footprint: Int { chunks.count * (chunkBytes + MemoryLayout<Chunk>.stride + 8 + Reader.keyBytes) }

  /// Something waits for `publish`.
  var isChanged: Bool { isReshaped || !replaced.isEmpty }

  // MARK: Search

  /// The greatest address not above `key`, and its words.
  func floor(_ key: Key) -> (address: Key, words: UnsafeMutableRawPointer)? {
    guard !chunks.isEmpty else { return nil }
    let chunk = chunks[self.chunk(key)]
    let count = Self.countNotAbove(key, chunk)
    guard count > 0 else { return nil }
    return (self.key(chunk, count - 1), self.words(chunk, count - 1))
  }

  /// Calls `body` with every address from `first` to `last` in order and its words; with the words of some more than
  /// once: readers may meet any of these.
  func forEach(_ first: Key, _ last: Key, _ body: (Key, UnsafeMutableRawPointer) -> Void) {
    guard !chunks.isEmpty else { return }
    var index = chunk(first)
    while index < chunks.count, chunks[index].first <= last {
      let chunk = chunks[index]
      var place = chunk.first >= first ? 0 : Self.countBelow(first, chunk)
      while place < chunk.count, key(chunk, place) <= last {
        body(key(chunk, place), words(chunk, place))
        place += 1
      }
      let hasLast = place == chunk.count && key(chunk, place - 1) >= first
      if hasLast {
        for copy in place..<max(place, Reader.capacity) { body(key(chunk, copy), words(chunk, copy)) }
      }
      index += 1
    }
  }

  // MARK: Change

  /// Adds an address that is not there; its words are 0.
  func insert(_ key: Key) {
    guard !chunks.isEmpty else {
      chunks = [newChunk(first: key)]
      isReshaped = true
      return
    }
    var index = chunk(key)
    if chunks[index].count == Reader.capacity {
      split(index)
      if key >= chunks[index + 1].first { index += 1 }
    }
    refresh(index)
    let place = Self.countNotAbove(key, chunks[index])
    move(&chunks[index], from: place, by: 1)
    keys(chunks[index])[place] = key
    memset(words(chunks[index], place), 0, words * 8)
    settle(index)
  }

  /// Takes out an address that is there.
  func remove(_ key: Key) {
    let index = chunk(key)
    let place = Self.countBelow(key, chunks[index])
    guard chunks[index].count > 1 else {
      discard(chunks.remove(at: index))
      isReshaped = true
      return
    }
    refresh(index)
    move(&chunks[index], from: place + 1, by: -1)
    settle(index)
    merge(index)
  }

  /// Shows readers what changed.
  func publish() {
    if isReshaped {
      if let top { retired.append(top) }
      top = makeTop()
      for index in chunks.indices { chunks[index].isFresh = false }
      atomicField(root, 0, as: UInt.self).pointee.store(UInt(bitPattern: top), ordering: .releasing)
    } else if let top {
      for index in replaced {
        chunks[index].isFresh = false
        // The last also stands for what fills up its group.
        let end = index == chunks.count - 1 ? Reader.padded(chunks.count) : index + 1
        for place in index..<end {
          let field = atomicField(top, 64 + place * 8, as: UInt.self)
          field.pointee.store(UInt(bitPattern: chunks[index].base), ordering: .releasing)
        }
      }
    }
    isReshaped = false
    replaced.removeAll(keepingCapacity: true)
    guard !retired.isEmpty else { return }
    let bases = retired
    retired = []
    reclaimer.retire { for base in bases { base.deallocate() } }
  }

  private func makeTop() -> UnsafeMutableRawPointer? {
    guard !chunks.isEmpty else { return nil }
    let padded = Reader.padded(chunks.count)
    let coarse = Reader.padded(padded / Reader.groupCount)
    let firsts = 64 + padded * 8
    let bytes = firsts + (padded + coarse) * Reader.keyBytes
    let top = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    top.storeBytes(of: chunks.count, as: Int.self)
    for place in 0..<padded {
      let chunk = chunks[min(place, chunks.count - 1)]
      top.storeBytes(of: UInt(bitPattern: chunk.base), toByteOffset: 64 + place * 8, as: UInt.self)
      top.storeBytes(of: chunk.first, toByteOffset: firsts + place * Reader.keyBytes, as: Key.self)
    }
    for place in 0..<coarse {
      let first = chunks[min(place * Reader.groupCount, chunks.count - 1)].first
      top.storeBytes(of: first, toByteOffset: firsts + (padded + place) * Reader.keyBytes, as: Key.self)
    }
    return top
  }

  // MARK: Chunks

  /// The chunk that an address is or belongs in.
  private func chunk(_ key: Key) -> Int {
    var (low, high) = (0, chunks.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if chunks[middle].first <= key { low = middle } else { high = middle }
    }
    return low
  }

  private func keys(_ chunk: Chunk) -> UnsafeMutablePointer<Key> {
    (chunk.base + Reader.keysOffset).assumingMemoryBound(to: Key.self)
  }

  private func key(_ chunk: Chunk, _ place: Int) -> Key { keys(chunk)[place] }

  private func words(_ chunk: Chunk, _ place: Int) -> UnsafeMutableRawPointer {
    chunk.base + Reader.wordsOffset + place * words * 8
  }

  private static func countNotAbove(_ key: Key, _ chunk: Chunk) -> Int {
    key == Key.max ? chunk.count : countBelow(key + 1, chunk)
  }

  private static func countBelow(_ key: Key, _ chunk: Chunk) -> Int {
    let keys = (chunk.base + Reader.keysOffset).assumingMemoryBound(to: Key.self)
    var (low, high) = (0, chunk.count)
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func newChunk(first: Key) -> Chunk {
    let base = UnsafeMutableRawPointer.allocate(byteCount: chunkBytes, alignment: 64)
    let chunk = Chunk(base: base, count: 1, first: first, isFresh: true)
    keys(chunk)[0] = first
    memset(words(chunk, 0), 0, words * 8)
    pad(chunk)
    return chunk
  }

  /// Makes a chunk one that may be changed.
  private func refresh(_ index: Int) {
    let old = chunks[index]
    guard !old.isFresh else { return }
    let base = UnsafeMutableRawPointer.allocate(byteCount: chunkBytes, alignment: 64)
    base.copyMemory(from: old.base, byteCount: chunkBytes)
    chunks[index].base = base
    chunks[index].isFresh = true
    replaced.append(index)
    retired.append(old.base)
  }

  private func discard(_ chunk: Chunk) {
    if chunk.isFresh { chunk.base.deallocate() } else { retired.append(chunk.base) }
  }

  private func move(_ chunk: inout Chunk, from place: Int, by distance: Int) {
    let count = chunk.count - place
    memmove(keys(chunk) + place + distance, keys(chunk) + place, count * Reader.keyBytes)
    memmove(words(chunk, place + distance), words(chunk, place), count * words * 8)
    chunk.count += distance
  }

  /// After a change: the first address, and what stands behind the last.
  private func settle(_ index: Int) {
    pad(chunks[index])
    let first = key(chunks[index], 0)
    guard first != chunks[index].first else { return }
    chunks[index].first = first
    isReshaped = true
  }

  private func pad(_ chunk: Chunk) {
    let last = chunk.count - 1
    for place in chunk.count..<max(chunk.count, Reader.capacity) {
      keys(chunk)[place] = keys(chunk)[last]
      memcpy(words(chunk, place), words(chunk, last), words * 8)
    }
    let samples = chunk.base.assumingMemoryBound(to: Key.self)
    for group in 0..<Reader.groupCount { samples[group] = keys(chunk)[group * Reader.groupCount] }
  }

  private func copy(_ source: Chunk, _ from: Int, _ count: Int, to target: Chunk, at place: Int) {
    memcpy(keys(target) + place, keys(source) + from, count * Reader.keyBytes)
    memcpy(words(target, place), words(source, from), count * words * 8)
  }

  private func split(_ index: Int) {
    let old = chunks[index]
    let half = old.count / 2
    var lower = newChunk(first: old.first)
    var upper = newChunk(first: key(old, half))
    copy(old, 0, half, to: lower, at: 0)
    copy(old, half, old.count - half, to: upper, at: 0)
    lower.count = half
    upper.count = old.count - half
    pad(lower)
    pad(upper)
    chunks.replaceSubrange(index...index, with: [lower, upper])
    discard(old)
    isReshaped = true
  }

  /// Joins a chunk that became small with a neighbour.
  private func merge(_ index: Int) {
    guard chunks[index].count < Reader.capacity / 4, chunks.count > 1 else { return }
    let first = index > 0 ? index - 1 : index
    let (lower, upper) = (chunks[first], chunks[first + 1])
    guard lower.count + upper.count <= Reader.capacity * 3 / 4 else { return }
    var joined = newChunk(first: lower.first)
    copy(lower, 0, lower.count, to: joined, at: 0)
    copy(upper, 0, upper.count, to: joined, at: lower.count)
    joined.count = lower.count + upper.count
    pad(joined)
    chunks.replaceSubrange(first...first + 1, with: [joined])
    discard(lower)
    discard(upper)
    isReshaped = true
  }
}
