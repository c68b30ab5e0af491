import Synchronization

/// For each source length a bound of the numeric priorities of the policies whose source prefix is not longer: after the
/// best was found, readers need not look at shorter ones. Control thread only, but for `words`, which readers read.
final class SPDPriorities {
  /// By source length; `UInt64.max`: no priorities.
  let words: UnsafeMutablePointer<UInt64>
  private var counts: [Int]
  /// The best of each length; when policies go, less than that perhaps, until none is left.
  private var ranks: [UInt64]

  init(lengths: Int) {
    words = .allocate(capacity: lengths)
    words.initialize(repeating: .max, count: lengths)
    counts = Array(repeating: 0, count: lengths)
    ranks = Array(repeating: .max, count: lengths)
  }

  /// No reader may be left.
  deinit { words.deallocate() }

  func insert(_ rank: UInt64, length: UInt8) {
    guard rank >> 63 == 0 else { return }
    counts[Int(length)] += 1
    guard rank < ranks[Int(length)] else { return }
    ranks[Int(length)] = rank
    store()
  }

  func remove(_ rank: UInt64, length: UInt8) {
    guard rank >> 63 == 0 else { return }
    counts[Int(length)] -= 1
    guard counts[Int(length)] == 0 else { return }
    ranks[Int(length)] = .max
    store()
  }

  private func store() {
    var best = UInt64.max
    for (length, rank) in ranks.enumerated() {
      best = min(best, rank)
      atomicField(words + length, 0, as: UInt64.self).pointee.store(best, ordering: .relaxed)
    }
  }
}
