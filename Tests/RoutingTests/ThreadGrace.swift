import Glibc
import IPsec
import Synchronization

/// A grace period for tests: readers count up, the writer frees what was retired before every reader counted on.
final class ThreadGrace: Reclaimer, @unchecked Sendable {
  private static let maximumReaders = 8
  // Even: not reading; the count moves by two at each quiescent state, odd while registered.
  private let counters: UnsafeMutablePointer<Atomic<UInt64>>
  private let registered = Atomic<Int>(0)
  private var held: [(snapshot: [UInt64], free: () -> Void)] = []

  init() {
    counters = .allocate(capacity: Self.maximumReaders)
    for reader in 0..<Self.maximumReaders { (counters + reader).initialize(to: Atomic(0)) }
  }

  deinit { counters.deallocate() }

  func register() -> Int {
    let slot = registered.add(1, ordering: .relaxed).oldValue
    counters[slot].add(1, ordering: .sequentiallyConsistent)
    return slot
  }

  func quiescent(_ slot: Int) { counters[slot].add(2, ordering: .sequentiallyConsistent) }
  func unregister(_ slot: Int) { counters[slot].add(1, ordering: .sequentiallyConsistent) }

  func retire(_ free: @escaping () -> Void) { held.append((snapshot(), free)) }

  func poll() {
    let now = snapshot()
    while let first = held.first, zip(first.snapshot, now).allSatisfy({ $0 % 2 == 0 || $1 != $0 }) {
      first.free()
      held.removeFirst()
    }
  }

  /// Every reader has left.
  func drain() {
    held.forEach { $0.free() }
    held = []
  }

  private func snapshot() -> [UInt64] {
    (0..<Self.maximumReaders).map { counters[$0].load(ordering: .sequentiallyConsistent) }
  }
}

/// Runs `body` on `count` threads of their own while `during` runs on this one; returns when all are done.
func withThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void, during: () -> Void) {
  final class Job {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }
  let threads = (0..<count).map { number in
    var thread = pthread_t()
    let job = Unmanaged.passRetained(Job { body(number) })
    pthread_create(
      &thread, nil,
      { raw in
        Unmanaged<Job>.fromOpaque(raw!).takeRetainedValue().run()
        return nil
      }, job.toOpaque())
    return thread
  }
  during()
  for thread in threads { pthread_join(thread, nil) }
}
