import Synchronization

/// UDP ports as workers ask for them: a bit each. The control thread writes, any worker reads.
public struct PortSet: ~Copyable {
  private let words = InlineArray<1024, Atomic<UInt64>> { _ in Atomic(0) }
  private let isAny = Atomic(false)

  init() {}

  var isEmpty: Bool {
    @inline(__always) borrowing get { !isAny.load(ordering: .relaxed) }
  }

  @inline(__always)
  borrowing func contains(_ port: UInt16) -> Bool {
    words[Int(port >> 6)].load(ordering: .relaxed) >> UInt64(port & 63) & 1 != 0
  }

  /// False: it was the same.
  @discardableResult
  public borrowing func set(_ ports: Set<UInt16>) -> Bool {
    var wanted = [UInt64](repeating: 0, count: 1024)
    for port in ports { wanted[Int(port >> 6)] |= 1 << UInt64(port & 63) }
    var isChanged = false
    for index in 0..<1024 where words[index].load(ordering: .relaxed) != wanted[index] {
      words[index].store(wanted[index], ordering: .relaxed)
      isChanged = true
    }
    isAny.store(!ports.isEmpty, ordering: .relaxed)
    return isChanged
  }
}
