import CLayout
import Synchronization

/// Anti-replay (RFC 4303 3.4.3) for several workers on one SA, without a lock.
///
/// `gw_sa.replay` is a ring of 64-bit words, each (block number : 32, bits : 32), where block b covers the sequence
/// numbers 32b ..< 32b + 32 and lives in word b modulo the ring's size. A word only ever moves to a newer block or
/// gains bits, by compare-and-swap, so a bit is set by one packet only: no interleaving accepts a duplicate. The ring
/// holds at least one block more than the window, so a block that is still in the window is never pushed out of its
/// word.
///
/// Any worker. The SA must have `replay_window` 0, or `replay` and `replay_mask` as `ringWords(window:)` says.
public enum ReplayWindow {
  public enum Verdict: UInt8, Sendable {
    case accepted, duplicate, tooOld
  }

  public static let smallestWindow: UInt32 = 32
  public static let largestWindow: UInt32 = 65536

  /// The window that is used when `packets` are asked for: a multiple of 32 within the limits; 0 stays 0.
  public static func window(for packets: UInt32) -> UInt32 {
    guard packets > 0 else { return 0 }
    return (min(max(packets, smallestWindow), largestWindow) &+ 31) & ~31
  }

  /// Words in the ring of a window; a power of two.
  public static func ringWords(window: UInt32) -> Int {
    guard window > 0 else { return 0 }
    let least = UInt32(window / 32 + 1)
    return 1 << (UInt32.bitWidth - (least - 1).leadingZeroBitCount)
  }

  /// Before any worker sees the SA: nothing received yet, or, with `highest` not 0, everything up to it.
  public static func initialise(_ sa: UnsafeMutablePointer<gw_sa>, highest: UInt64) {
    sa.pointee.replay_highest = highest
    guard sa.pointee.replay_window > 0 else { return }
    let words = UInt64(sa.pointee.replay_mask) + 1
    for word in 0..<words { sa.pointee.replay[Int(word)] = word << 32 }
    guard highest > 0 else { return }
    let newest = highest >> 5
    for age in 0..<min(words, newest + 1) {
      let block = newest - age
      let bits: UInt64 = age == 0 ? (2 << (highest & 31)) - 1 : 0xffff_ffff
      sa.pointee.replay[Int(block & (words - 1))] = (block & 0xffff_ffff) << 32 | bits
    }
  }

  /// While workers use the SA: nothing up to `highest` is accepted any more. Never backwards. Control thread.
  public static func advance(_ sa: UnsafeMutablePointer<gw_sa>, to highest: UInt64) {
    let field = sa.replayHighestAtomic
    let seen = field.pointee.load(ordering: .relaxed)
    guard highest > seen else { return }
    if sa.pointee.replay_window > 0 {
      let newest = highest >> 5
      let oldest = newest - min(newest, UInt64(sa.pointee.replay_mask))
      for sequence in stride(from: oldest << 5, through: highest, by: 32) {
        let last = min(sequence + 31, highest)
        for number in sequence...last { _ = mark(wordAtomic(sa, number), number) }
      }
    }
    raise(field, to: highest, from: seen)
  }

  /// Bit i is set if the number `highest - i` was received: the newest 64. Any thread.
  public static func bitmap(_ sa: UnsafeMutablePointer<gw_sa>) -> (highest: UInt64, bits: UInt64) {
    let highest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
    guard sa.pointee.replay_window > 0 else { return (highest, 0) }
    var bits: UInt64 = 0
    for back in 0..<min(64, highest) {
      let number = highest - back
      let word = wordAtomic(sa, number).pointee.load(ordering: .relaxed)
      if blockAge(word, number) == 0, word & (1 << (number & 31)) != 0 { bits |= 1 << back }
    }
    return (highest, bits)
  }

  /// The sequence number that the 32 bits in a packet stand for (RFC 4303 Appendix A2.2); as it is without ESN.
  /// Without a window the nearer half of the number space decides.
  @inlinable @inline(__always)
  public static func inferHigh(_ sa: UnsafeMutablePointer<gw_sa>, low: UInt32) -> UInt64 {
    guard sa.pointee.flags & GW_SA_ESN.rawValue != 0 else { return UInt64(low) }
    let highest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
    let span = sa.pointee.replay_window == 0 ? 1 << 31 : sa.pointee.replay_window
    let top = UInt32(truncatingIfNeeded: highest)
    let bottom = top &- (span &- 1)
    var high = UInt32(truncatingIfNeeded: highest >> 32)
    if top >= span &- 1 {
      if low < bottom { high &+= 1 }
    } else if low >= bottom, high > 0 {
      high &-= 1
    }
    return UInt64(high) << 32 | UInt64(low)
  }

  /// Before authentication: false if the packet is certain to be refused. Changes nothing.
  @inlinable @inline(__always)
  public static func check(_ sa: UnsafeMutablePointer<gw_sa>, sequence: UInt64) -> Bool {
    let window = UInt64(sa.pointee.replay_window)
    guard window != 0 else { return true }
    let highest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
    if sequence > highest { return true }
    if sequence &+ window <= highest || sequence == 0 { return false }
    let word = wordAtomic(sa, sequence).pointee.load(ordering: .relaxed)
    let age = blockAge(word, sequence)
    return age > 0 || age == 0 && word & (1 << (sequence & 31)) == 0
  }

  /// After authentication: marks the number as received. Exactly one of several packets with it is accepted.
  @inlinable @inline(__always)
  public static func accept(_ sa: UnsafeMutablePointer<gw_sa>, sequence: UInt64) -> Verdict {
    let seen = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
    if sa.pointee.replay_window != 0 {
      if sequence == 0 || isBefore(sequence, window: UInt64(sa.pointee.replay_window), seen) { return .tooOld }
      let verdict = mark(wordAtomic(sa, sequence), sequence)
      guard verdict == .accepted else { return verdict }
    }
    raise(sa.replayHighestAtomic, to: sequence, from: seen)
    return .accepted
  }

  /// As `accept(_:sequence:)` for `count` numbers in turn, the number of each by its index; those that are not accepted
  /// are told. Neighbours in one block are marked by one compare-and-swap, and the highest is written once.
  @inlinable @inline(__always)
  public static func accept(
    _ sa: UnsafeMutablePointer<gw_sa>, count: Int, sequence: (Int) -> UInt64, refused: (Int, Verdict) -> Void
  ) {
    if count == 1 {
      let verdict = accept(sa, sequence: sequence(0))
      if verdict != .accepted { refused(0, verdict) }
      return
    }
    let seen = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
    var highest = seen
    var i = 0
    let hasWindow = sa.pointee.replay_window != 0
    while i < count {
      let (taken, top, verdict) =
        hasWindow
        ? markNeighbours(sa, from: i, count: count, highest: highest, sequence) : (1, sequence(i), .accepted)
      if verdict != .accepted { refused(i, verdict) } else if top > highest { highest = top }
      i &+= taken
    }
    if highest > seen { raise(sa.replayHighestAtomic, to: highest, from: seen) }
  }

  /// Marks number `first` and as many behind it as have not been received and lie in its block. Returns for how many the
  /// verdict holds (1, unless it is `accepted`), and the highest of them, if they are accepted.
  @inlinable @inline(__always)
  static func markNeighbours(
    _ sa: UnsafeMutablePointer<gw_sa>, from first: Int, count: Int, highest: UInt64, _ sequence: (Int) -> UInt64
  ) -> (taken: Int, top: UInt64, verdict: Verdict) {
    let window = UInt64(sa.pointee.replay_window)
    let number = sequence(first)
    if number == 0 || isBefore(number, window: window, highest) { return (1, 0, .tooOld) }
    let field = wordAtomic(sa, number)
    let word = field.pointee.load(ordering: .relaxed)
    let age = blockAge(word, number)
    if age < 0 { return (1, 0, .tooOld) }
    let start = age == 0 ? word : ((number >> 5) & 0xffff_ffff) << 32
    var wanted = start
    var top = number
    var end = first
    while end < count {
      let next = sequence(end)
      let bit: UInt64 = 1 << (next & 31)
      if next >> 5 != number >> 5 || wanted & bit != 0 || isBefore(next, window: window, highest) || next == 0 { break }
      wanted |= bit
      if next > top { top = next }
      end &+= 1
    }
    if end == first { return (1, 0, .duplicate) }
    let (exchanged, _) = field.pointee.compareExchange(expected: word, desired: wanted, ordering: .relaxed)
    // Another worker marked numbers of the block meanwhile: one at a time.
    return exchanged ? (end &- first, top, .accepted) : (1, number, mark(field, number))
  }

  /// Out of the window that ends with `highest`.
  @inlinable @inline(__always)
  static func isBefore(_ sequence: UInt64, window: UInt64, _ highest: UInt64) -> Bool {
    sequence <= highest && sequence &+ window <= highest
  }

  @inlinable @inline(__always)
  static func mark(_ field: UnsafeMutablePointer<Atomic<UInt64>>, _ sequence: UInt64) -> Verdict {
    let bit: UInt64 = 1 << (sequence & 31)
    let block = (sequence >> 5) & 0xffff_ffff
    var word = field.pointee.load(ordering: .relaxed)
    while true {
      let age = blockAge(word, sequence)
      if age < 0 { return .tooOld }
      if age == 0 && word & bit != 0 { return .duplicate }
      let wanted = age == 0 ? word | bit : block << 32 | bit
      let (exchanged, original) = field.pointee.weakCompareExchange(
        expected: word, desired: wanted, ordering: .relaxed)
      if exchanged { return .accepted }
      word = original
    }
  }

  @inlinable @inline(__always)
  static func raise(_ field: UnsafeMutablePointer<Atomic<UInt64>>, to sequence: UInt64, from seen: UInt64) {
    var highest = seen
    while sequence > highest {
      let (exchanged, original) = field.pointee.weakCompareExchange(
        expected: highest, desired: sequence, ordering: .relaxed)
      if exchanged { return }
      highest = original
    }
  }

  @inlinable @inline(__always)
  static func wordAtomic(
    _ sa: UnsafeMutablePointer<gw_sa>, _ sequence: UInt64
  ) -> UnsafeMutablePointer<Atomic<UInt64>> {
    let index = Int(truncatingIfNeeded: UInt32(truncatingIfNeeded: sequence >> 5) & sa.pointee.replay_mask)
    return atomicField(UnsafeMutableRawPointer(sa.pointee.replay.unsafelyUnwrapped), index &* 8)
  }

  /// How many blocks the sequence number's block is newer than the word's; negative: older.
  @inlinable @inline(__always)
  static func blockAge(_ word: UInt64, _ sequence: UInt64) -> Int32 {
    Int32(truncatingIfNeeded: sequence >> 5) &- Int32(truncatingIfNeeded: word >> 32)
  }
}
