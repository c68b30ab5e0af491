import CDPDK
import DPDK

/// What the pieces of one datagram have in common. How they came here is part of it: out of which SAs, from the host, or
/// in clear by which port. Pieces of different origin are never joined, for a datagram is checked as a whole: what a
/// tunnel vouches for must not be made whole by what anybody may send in clear.
struct FragmentKey: Equatable {
  var source: (high: UInt64, low: UInt64)
  var destination: (high: UInt64, low: UInt64)
  /// Serials of the SAs, the outermost first, two to a word.
  var layers: (UInt64, UInt64) = (0, 0)
  /// (identification : 32, port : 16, protocol : 8, origin : 4, version : 4)
  var rest: UInt64

  /// `port`: that a piece in clear came by. `ipProtocol`: 0 for IPv6, where pieces of one datagram may say different
  /// ones (RFC 8200 4.5).
  init(
    source: (high: UInt64, low: UInt64), destination: (high: UInt64, low: UInt64), identification: UInt32,
    ipProtocol: UInt8, version: UInt8, origin: PacketOrigin, port: UInt16
  ) {
    self.source = source
    self.destination = destination
    rest =
      UInt64(identification) << 32 | UInt64(port) << 16 | UInt64(ipProtocol) << 8 | UInt64(origin.rawValue) << 4
      | UInt64(version)
  }

  @inline(__always)
  static func == (a: FragmentKey, b: FragmentKey) -> Bool {
    var difference = (a.source.high ^ b.source.high) | (a.source.low ^ b.source.low)
    difference |= (a.destination.high ^ b.destination.high) | (a.destination.low ^ b.destination.low)
    difference |= (a.layers.0 ^ b.layers.0) | (a.layers.1 ^ b.layers.1)
    return difference | (a.rest ^ b.rest) == 0
  }
}

/// One fragment, as it says of itself.
struct DatagramPiece {
  /// Where its bytes go behind the header, or behind the fragment header.
  var offset: Int
  var length: Int
  var hasMore: Bool
  var payload: UnsafeMutableRawPointer
  /// Bytes of IP headers before it, without the fragment header.
  var headers: Int
  /// The two bits of the traffic class.
  var ecn: UInt8

  var end: Int { offset &+ length }
}

/// In the private area of a buffer that holds a piece.
struct FragmentNote {
  var next: Mbuf?
  var payload: UnsafeMutableRawPointer
  var offset: Int32
  var length: Int32
  var headers: Int32
}

extension UnsafeMutablePointer where Pointee == cdpdk_mbuf {
  var fragment: UnsafeMutablePointer<FragmentNote> { privateArea.assumingMemoryBound(to: FragmentNote.self) }
}

/// The datagrams that a worker puts together. Pieces wait in the buffers that they came in, which are counted, and bounded
/// for each source and in all. Who goes beyond puts out the oldest datagram, of that source or of all, so that a flood
/// keeps others from being put together only where it is faster than their pieces follow each other.
///
/// One worker's plain memory; copies speak of the same.
struct FragmentTable {
  /// Buffers of a worker that wait in all, and of one source: eight times the pieces that 64 kB have over the smallest
  /// IPv6 link.
  static var mostBuffers: Int { 1024 }
  static var mostOfSource: Int { 512 }
  static var seconds: UInt64 { 2 }

  struct Datagram {
    var key: FragmentKey
    /// In cycles.
    var deadline: UInt64
    /// The piece that came last; the others by their notes.
    var pieces: Mbuf?
    /// The one that begins the datagram.
    var first: Mbuf?
    var buffers: Int32
    /// Of payload: what there is, how far the farthest piece reaches, and how much it will be, or -1.
    var bytes: Int32
    var end: Int32
    var total: Int32
    /// A bit for each codepoint of the pieces.
    var ecn: UInt8
    /// Two pieces overlapped: the others are dropped as they come (RFC 5722 4).
    var isRefused: Bool
    /// The next in its bucket.
    var next: Int32
    var bucket: Int32
    var source: Int32
  }

  private struct Counts {
    var buffers = 0
    var free = 0
  }

  /// A place in a list of datagrams, by age: one list of all, and one for each slot of sources.
  private struct Link {
    var older: Int32
    var newer: Int32
  }

  private static var sources: Int { 1024 }
  /// For each datagram a bit for each 8 bytes of payload, set where a piece has been.
  private static var marks: Int { 65_536 / 8 / 64 }

  // Datagrams are numbered from 1 on: 0 is none, as memory is at first.
  private let capacity: Int
  private let ticks: UInt64
  private let seed: UInt64
  private let counts: UnsafeMutablePointer<Counts>
  private let datagrams: UnsafeMutablePointer<Datagram>
  private let bits: UnsafeMutablePointer<UInt64>
  private let buckets: UnsafeMutablePointer<Int32>
  private let bucketMask: Int
  /// Those that are not in use.
  private let free: UnsafeMutablePointer<Int32>
  /// Of datagram `i` the one in the list of all, and at `capacity + 1 + i` the one in its source's.
  private let links: UnsafeMutablePointer<Link>
  /// (oldest, newest) of all, and from 1 on of each slot of sources.
  private let lists: UnsafeMutablePointer<Link>
  private let buffersOfSource: UnsafeMutablePointer<Int32>

  /// `capacity`: datagrams at a time; 0: none is put together. `ticks`: how long each may take, in cycles.
  init(capacity: Int, ticks: UInt64, arrays: WorkerArrays) {
    // Of whole words.
    func memory<T>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> { arrays.make(type, (count + 1) & ~1) }
    var bucketCount = 1
    while bucketCount < capacity { bucketCount *= 2 }
    self.capacity = capacity
    self.ticks = ticks
    seed = UInt64.random(in: 0...UInt64.max)
    bucketMask = bucketCount - 1
    counts = memory(Counts.self, 1)
    datagrams = memory(Datagram.self, capacity + 1)
    bits = memory(UInt64.self, (capacity + 1) * Self.marks)
    buckets = memory(Int32.self, bucketCount)
    free = memory(Int32.self, capacity + 1)
    links = memory(Link.self, 2 * (capacity + 1))
    lists = memory(Link.self, Self.sources + 1)
    buffersOfSource = memory(Int32.self, Self.sources)
    counts.initialize(to: Counts(buffers: 0, free: capacity))
    // The first ones are taken first: memory that is not used is never touched.
    for index in 0..<capacity { free[index] = Int32(capacity - index) }
  }

  /// Buffers that hold pieces.
  var buffers: Int { counts.pointee.buffers }

  // MARK: Pieces

  /// Takes a piece and its buffer. Returns the number of the datagram that it makes whole, which is to be taken at once;
  /// 0: it waits, or was dropped.
  @inline(never)
  func put(_ w: WorkerPointer, _ mbuf: Mbuf, _ piece: DatagramPiece, _ key: FragmentKey, now: UInt64) -> Int32 {
    guard capacity > 0 else {
      drop(w, mbuf, .fragmentLimit)
      return 0
    }
    let (hash, source) = places(key)
    makeRoom(w, source: source)
    let found = find(key, bucket: hash)
    let index = found != 0 ? found : open(w, key, bucket: hash, source: source, now: now)
    let datagram = datagrams + Int(index)
    guard !datagram.pointee.isRefused, fits(index, piece) else {
      drop(w, mbuf, .fragmentOverlap)
      refuse(w, index)
      return 0
    }
    keep(index, mbuf, piece)
    return datagram.pointee.bytes == datagram.pointee.total ? index : 0
  }

  private func places(_ key: FragmentKey) -> (bucket: Int32, source: Int32) {
    let from = mix(mix(seed, key.source.high), key.source.low)
    var hash = mix(mix(from, key.destination.high), key.destination.low)
    hash = mix(mix(mix(hash, key.layers.0), key.layers.1), key.rest)
    return (
      Int32(truncatingIfNeeded: Int(truncatingIfNeeded: hash >> 16) & bucketMask),
      Int32(truncatingIfNeeded: Int(truncatingIfNeeded: from >> 16) & (Self.sources &- 1))
    )
  }

  @inline(__always)
  private func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = (a ^ b) &* 0x9e37_79b9_7f4a_7c15
    return product ^ product >> 29
  }

  private func find(_ key: FragmentKey, bucket: Int32) -> Int32 {
    var index = buckets[Int(bucket)]
    while index != 0, datagrams[Int(index)].key != key { index = datagrams[Int(index)].next }
    return index
  }

  /// Whether the bytes are new, and where they may be.
  private func fits(_ index: Int32, _ piece: DatagramPiece) -> Bool {
    let datagram = datagrams + Int(index)
    let (end, total) = (Int(datagram.pointee.end), Int(datagram.pointee.total))
    if total >= 0, piece.end > total || !piece.hasMore { return false }
    if !piece.hasMore, end > piece.end { return false }
    return mark(index, piece)
  }

  /// Marks the bytes as there; false: some were.
  private func mark(_ index: Int32, _ piece: DatagramPiece) -> Bool {
    let words = bits + Int(index) &* Self.marks
    let (first, last) = (piece.offset >> 3, (piece.end &- 1) >> 3)
    var word = first >> 6
    while word <= last >> 6 {
      var mask = UInt64.max
      if word == first >> 6 { mask &= UInt64.max &<< UInt64(first & 63) }
      if word == last >> 6 { mask &= UInt64.max &>> UInt64(63 &- last & 63) }
      if words[word] & mask != 0 { return false }
      words[word] |= mask
      word &+= 1
    }
    return true
  }

  private func keep(_ index: Int32, _ mbuf: Mbuf, _ piece: DatagramPiece) {
    let datagram = datagrams + Int(index)
    mbuf.fragment.initialize(
      to: FragmentNote(
        next: datagram.pointee.pieces, payload: piece.payload, offset: Int32(truncatingIfNeeded: piece.offset),
        length: Int32(truncatingIfNeeded: piece.length), headers: Int32(truncatingIfNeeded: piece.headers)))
    datagram.pointee.pieces = mbuf
    if piece.offset == 0 { datagram.pointee.first = mbuf }
    datagram.pointee.buffers &+= 1
    datagram.pointee.bytes &+= Int32(truncatingIfNeeded: piece.length)
    datagram.pointee.end = max(datagram.pointee.end, Int32(truncatingIfNeeded: piece.end))
    if !piece.hasMore { datagram.pointee.total = Int32(truncatingIfNeeded: piece.end) }
    datagram.pointee.ecn |= 1 &<< piece.ecn
    counts.pointee.buffers &+= 1
    buffersOfSource[Int(datagram.pointee.source)] &+= 1
  }

  // MARK: Datagrams

  private func open(_ w: WorkerPointer, _ key: FragmentKey, bucket: Int32, source: Int32, now: UInt64) -> Int32 {
    if counts.pointee.free == 0 { put(out: lists[0].older, w, .fragmentLimit) }
    counts.pointee.free &-= 1
    let index = free[counts.pointee.free]
    (datagrams + Int(index)).initialize(
      to: Datagram(
        key: key, deadline: now &+ ticks, pieces: nil, first: nil, buffers: 0, bytes: 0, end: 0, total: -1, ecn: 0,
        isRefused: false, next: buckets[Int(bucket)], bucket: bucket, source: source))
    buckets[Int(bucket)] = index
    append(index, to: 0, links: 0)
    append(index, to: Int(source) &+ 1, links: capacity &+ 1)
    return index
  }

  /// Forgets a datagram, and gives its pieces to the caller.
  private func close(_ index: Int32) {
    let datagram = datagrams + Int(index)
    forgetBuffers(index)
    unlink(index, bucket: Int(datagram.pointee.bucket))
    remove(index, from: 0, links: 0)
    remove(index, from: Int(datagram.pointee.source) &+ 1, links: capacity &+ 1)
    free[counts.pointee.free] = index
    counts.pointee.free &+= 1
  }

  private func forgetBuffers(_ index: Int32) {
    let datagram = datagrams + Int(index)
    counts.pointee.buffers &-= Int(datagram.pointee.buffers)
    buffersOfSource[Int(datagram.pointee.source)] &-= datagram.pointee.buffers
    datagram.pointee.buffers = 0
    let words = (Int(datagram.pointee.end) &+ 511) >> 9
    (bits + Int(index) &* Self.marks).update(repeating: 0, count: words)
  }

  private func unlink(_ index: Int32, bucket: Int) {
    guard buckets[bucket] != index else {
      buckets[bucket] = datagrams[Int(index)].next
      return
    }
    var before = Int(buckets[bucket])
    while datagrams[before].next != index { before = Int(datagrams[before].next) }
    datagrams[before].next = datagrams[Int(index)].next
  }

  /// What is left of it: the key, until its time is over.
  private func refuse(_ w: WorkerPointer, _ index: Int32) {
    let datagram = datagrams + Int(index)
    datagram.pointee.isRefused = true
    freePieces(w, datagram.pointee.pieces, .fragmentOverlap)
    forgetBuffers(index)
    datagram.pointee.pieces = nil
    datagram.pointee.first = nil
    datagram.pointee.end = 0
  }

  private func put(out index: Int32, _ w: WorkerPointer, _ reason: DropReason) {
    let pieces = datagrams[Int(index)].pieces
    close(index)
    freePieces(w, pieces, reason)
  }

  private func makeRoom(_ w: WorkerPointer, source: Int32) {
    let list = lists + (Int(source) &+ 1)
    while Int(buffersOfSource[Int(source)]) >= Self.mostOfSource { put(out: list.pointee.older, w, .fragmentLimit) }
    while counts.pointee.buffers >= Self.mostBuffers { put(out: lists[0].older, w, .fragmentLimit) }
  }

  /// Drops what has waited too long.
  @inline(__always)
  func collect(_ w: WorkerPointer, now: UInt64) {
    while lists[0].older != 0, datagrams[Int(lists[0].older)].deadline <= now { expire(w) }
  }

  @inline(never)
  private func expire(_ w: WorkerPointer) { put(out: lists[0].older, w, .reassemblyTimeout) }

  private func freePieces(_ w: WorkerPointer, _ pieces: Mbuf?, _ reason: DropReason) {
    var next = pieces
    while let mbuf = next {
      next = mbuf.fragment.pointee.next
      drop(w, mbuf, reason)
    }
  }

  private func drop(_ w: WorkerPointer, _ mbuf: Mbuf, _ reason: DropReason) {
    (w.pointee.drops + Int(reason.rawValue)).increment()
    w.free(mbuf)
  }

  // MARK: Whole

  /// All pieces of a datagram, the caller's.
  struct Whole {
    /// The last that came; the others by their notes.
    let pieces: Mbuf
    let first: Mbuf
    let length: Int
    let ecn: UInt8
  }

  /// The datagram that the last `put` made whole.
  func take(_ index: Int32) -> Whole {
    let datagram = datagrams[Int(index)]
    close(index)
    return Whole(
      pieces: datagram.pieces.unsafelyUnwrapped, first: datagram.first.unsafelyUnwrapped,
      length: Int(datagram.total), ecn: datagram.ecn)
  }

  // MARK: Lists

  private func append(_ index: Int32, to list: Int, links base: Int) {
    let newest = lists[list].newer
    links[base &+ Int(index)] = Link(older: newest, newer: 0)
    if newest == 0 { lists[list].older = index } else { links[base &+ Int(newest)].newer = index }
    lists[list].newer = index
  }

  private func remove(_ index: Int32, from list: Int, links base: Int) {
    let link = links[base &+ Int(index)]
    if link.older == 0 { lists[list].older = link.newer } else { links[base &+ Int(link.older)].newer = link.newer }
    if link.newer == 0 { lists[list].newer = link.older } else { links[base &+ Int(link.newer)].older = link.older }
  }
}
