/// Lets in so many at a time; the others wait in order.
struct Turnstile {
  let places: Int
  private(set) var inside: Set<UInt64> = []
  private(set) var waiting: [UInt64] = []

  init(places: Int) { self.places = places }

  /// False: it has to wait, and is named by a later `leave`.
  mutating func enter(_ number: UInt64) -> Bool {
    guard inside.count < places else {
      waiting.append(number)
      return false
    }
    inside.insert(number)
    return true
  }

  /// Leaves, or waits no more.
  /// - Returns: who is in now in its place.
  mutating func leave(_ number: UInt64) -> UInt64? {
    guard inside.remove(number) != nil else {
      waiting.removeAll { $0 == number }
      return nil
    }
    guard !waiting.isEmpty else { return nil }
    let next = waiting.removeFirst()
    inside.insert(next)
    return next
  }
}
