import CLayout
import Foundation
import SeededRandom
import Synchronization
import Testing

@testable import IPsec

/// What the window must do, said with a set.
private struct WindowModel {
  let window: UInt64
  var seen: Set<UInt64> = []
  var highest: UInt64 = 0

  mutating func accept(_ sequence: UInt64) -> ReplayWindow.Verdict {
    if sequence == 0 || sequence + window <= highest { return .tooOld }
    guard seen.insert(sequence).inserted else { return .duplicate }
    highest = max(highest, sequence)
    return .accepted
  }
}

@Suite struct ReplayWindowTests {
  static let windows: [UInt32] = [32, 64, 96, 128, 1024, 4096, 65536]

  @Test func sizes() {
    #expect(ReplayWindow.window(for: 0) == 0)
    #expect(ReplayWindow.window(for: 1) == 32)
    #expect(ReplayWindow.window(for: 33) == 64)
    #expect(ReplayWindow.window(for: .max) == 65536)
    #expect(ReplayWindow.ringWords(window: 0) == 0)
    #expect(ReplayWindow.ringWords(window: 32) == 2)
    #expect(ReplayWindow.ringWords(window: 64) == 4)
    #expect(ReplayWindow.ringWords(window: 96) == 4)
    #expect(ReplayWindow.ringWords(window: 128) == 8)
    #expect(ReplayWindow.ringWords(window: 65536) == 4096)
  }

  @Test(arguments: windows) func agreesWithTheModel(window: UInt32) {
    var random = SeededGenerator()
    for _ in 0..<4 {
      let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: window)
      defer { UnsafeMutableRawPointer(sa).deallocate() }
      var model = WindowModel(window: UInt64(window))
      for _ in 0..<20_000 {
        let sequence: UInt64
        switch Int.random(in: 0..<100, using: &random) {
        case 0: sequence = model.highest + .random(in: 1...UInt64(window) * 5, using: &random)
        case 1...40: sequence = model.highest + .random(in: 1...3, using: &random)
        default:
          let back = UInt64.random(in: 0...UInt64(window) + 40, using: &random)
          sequence = model.highest - min(back, model.highest)
        }
        let verdict = model.accept(sequence)
        let passes = ReplayWindow.check(sa, sequence: sequence)
        let answer = ReplayWindow.accept(sa, sequence: sequence)
        if passes != (verdict == .accepted) || answer != verdict || sa.pointee.replay_highest != model.highest {
          Issue.record("seed \(random.seed): \(sequence) is \(verdict), not \(answer)")
        }
      }
    }
  }

  /// Bursts, as they come: in order, out of order, some of it twice.
  @Test(arguments: windows) func burstsAgreeWithTheModel(window: UInt32) {
    var random = SeededGenerator()
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: window)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    var model = WindowModel(window: UInt64(window))
    var next: UInt64 = 0
    for _ in 0..<4_000 {
      let numbers = (0..<Int.random(in: 1...48, using: &random)).map { _ -> UInt64 in
        switch Int.random(in: 0..<64, using: &random) {
        case 0: next += .random(in: 1...UInt64(window) * 3, using: &random)
        case 1...6: return next - min(next, .random(in: 0...UInt64(window) + 40, using: &random))
        case 7...9: next += 2
        default: next += 1
        }
        return next
      }
      let expected = numbers.map { model.accept($0) }
      var answers = [ReplayWindow.Verdict](repeating: .accepted, count: numbers.count)
      ReplayWindow.accept(sa, count: numbers.count) {
        numbers[$0]
      } refused: {
        answers[$0] = $1
      }
      #expect(answers == expected && sa.pointee.replay_highest == model.highest, "seed \(random.seed): \(numbers)")
    }
  }

  /// Block numbers are kept by their low 32 bits: the window goes over 2^37 as over any other number.
  @Test(arguments: [32, 36, 37, 63] as [UInt64]) func crossesEveryBoundary(power: UInt64) {
    let middle: UInt64 = 1 << power
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: 64, flags: GW_SA_ESN)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    ReplayWindow.initialise(sa, highest: middle - 1000)
    for sequence in middle - 999...middle + 1000 where sequence % 3 != 0 {
      #expect(ReplayWindow.inferHigh(sa, low: UInt32(truncatingIfNeeded: sequence)) == sequence)
      #expect(ReplayWindow.accept(sa, sequence: sequence) == .accepted)
      #expect(ReplayWindow.accept(sa, sequence: sequence) == .duplicate)
      let skipped = sequence - sequence % 3
      if sequence % 3 == 2, skipped > middle - 1000 {
        #expect(ReplayWindow.inferHigh(sa, low: UInt32(truncatingIfNeeded: skipped)) == skipped)
        #expect(ReplayWindow.accept(sa, sequence: skipped) == .accepted)
      }
    }
  }

  @Test func takeoverRefusesWhatWasSeenBefore() {
    for highest: UInt64 in [1, 31, 32, 63, 64, 1000, 1 << 33] {
      let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: 64)
      defer { UnsafeMutableRawPointer(sa).deallocate() }
      ReplayWindow.initialise(sa, highest: highest)
      for sequence in highest - min(highest, 200)...highest {
        #expect(!ReplayWindow.check(sa, sequence: sequence))
        #expect(ReplayWindow.accept(sa, sequence: sequence) != .accepted)
      }
      #expect(ReplayWindow.accept(sa, sequence: highest + 1) == .accepted)
    }
  }

  @Test func withoutAWindowEverythingPasses() {
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: 0, flags: GW_SA_ESN)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    #expect(ReplayWindow.accept(sa, sequence: 5) == .accepted)
    #expect(ReplayWindow.accept(sa, sequence: 5) == .accepted)
    #expect(sa.pointee.replay_highest == 5)
    ReplayWindow.initialise(sa, highest: 0xffff_fff0)
    #expect(ReplayWindow.inferHigh(sa, low: 3) == 1 << 32 | 3)
    #expect(ReplayWindow.inferHigh(sa, low: 0xffff_0000) == 0xffff_0000)
  }

  /// RFC 4303 Appendix A2.2, both cases, window 64.
  @Test func infersTheHighHalf() {
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: 64, flags: GW_SA_ESN)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    let two: UInt64 = 2 << 32
    // Case A: the window lies within one subspace.
    ReplayWindow.initialise(sa, highest: two | 1000)
    #expect(ReplayWindow.inferHigh(sa, low: 1001) == two | 1001)
    #expect(ReplayWindow.inferHigh(sa, low: 937) == two | 937)
    #expect(ReplayWindow.inferHigh(sa, low: 936) == 3 << 32 | 936)
    // Case B: it spans two.
    ReplayWindow.initialise(sa, highest: two | 10)
    #expect(ReplayWindow.inferHigh(sa, low: 11) == two | 11)
    #expect(ReplayWindow.inferHigh(sa, low: 0xffff_fff0) == 1 << 32 | 0xffff_fff0)
    #expect(ReplayWindow.inferHigh(sa, low: 0xffff_ff00) == two | 0xffff_ff00)
    // There is nothing before the first subspace.
    ReplayWindow.initialise(sa, highest: 10)
    #expect(ReplayWindow.inferHigh(sa, low: 0xffff_fff0) == 0xffff_fff0)
  }

  /// Several workers get the same numbers, each twice, in different orders: each number passes once, at most.
  @Test(arguments: [64, 1024, 65536] as [UInt32]) func concurrentWorkersAcceptEachNumberOnce(window: UInt32) {
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: window)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    let (workers, total) = (4, 60_000)
    let counts = UnsafeMutablePointer<Atomic<UInt8>>.allocate(capacity: total + 1)
    for i in 0...total { (counts + i).initialize(to: Atomic(0)) }
    defer { counts.deallocate() }
    let spread = Int(window) / 2
    nonisolated(unsafe) let shared = (sa: sa, counts: counts)
    DispatchQueue.concurrentPerform(iterations: workers) { worker in
      var random = SeededGenerator(seed: UInt64(worker) + 1)
      for base in 1...total * 2 {
        let jitter = Int.random(in: -spread...spread, using: &random)
        let sequence = min(max(base / 2 + jitter, 1), total)
        if ReplayWindow.check(shared.sa, sequence: UInt64(sequence)),
          ReplayWindow.accept(shared.sa, sequence: UInt64(sequence)) == .accepted
        {
          shared.counts[sequence].wrappingAdd(1, ordering: .relaxed)
        }
      }
    }
    let most = (1...total).map { counts[$0].load(ordering: .relaxed) }.max()
    #expect(most == 1)
    #expect(sa.pointee.replay_highest == UInt64(total))
  }

  /// As above, in bursts: a block's word is changed for several numbers at once, while others change it.
  @Test(arguments: [64, 1024] as [UInt32]) func concurrentBurstsAcceptEachNumberOnce(window: UInt32) {
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: window)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    let (workers, total, burst) = (4, 60_000, 8)
    let counts = UnsafeMutablePointer<Atomic<UInt8>>.allocate(capacity: total + 2 * burst)
    for i in 0..<total + 2 * burst { (counts + i).initialize(to: Atomic(0)) }
    defer { counts.deallocate() }
    nonisolated(unsafe) let shared = (sa: sa, counts: counts)
    DispatchQueue.concurrentPerform(iterations: workers) { worker in
      var random = SeededGenerator(seed: UInt64(worker) + 1)
      for base in stride(from: 1, through: total, by: burst / 2) {
        let first = max(1, base + Int.random(in: -burst...burst, using: &random))
        withUnsafeTemporaryAllocation(of: Bool.self, capacity: burst) { isAccepted in
          isAccepted.initialize(repeating: true)
          ReplayWindow.accept(shared.sa, count: burst) {
            UInt64(first + $0)
          } refused: { index, _ in
            isAccepted[index] = false
          }
          for index in 0..<burst where isAccepted[index] {
            shared.counts[first + index].wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    let most = (1..<total).map { counts[$0].load(ordering: .relaxed) }.max()
    #expect(most == 1)
  }

  /// Two workers that stay within half a window of each other lose nothing: every number passes exactly once.
  @Test func nothingInTheWindowIsRefused() {
    let window: UInt32 = 4096
    let sa = Sample.sa(spi: 1, destination: Sample.v4(1), window: window)
    defer { UnsafeMutableRawPointer(sa).deallocate() }
    let total = 200_000
    let step = Int(window) / 2
    let progress = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 2)
    let accepted = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 1)
    (progress + 0).initialize(to: Atomic(0))
    (progress + 1).initialize(to: Atomic(0))
    accepted.initialize(to: Atomic(0))
    nonisolated(unsafe) let shared = (sa: sa, progress: progress, accepted: accepted)
    DispatchQueue.concurrentPerform(iterations: 2) { worker in
      var passed = 0
      for block in 0..<total / step {
        while shared.progress[1 - worker].load(ordering: .acquiring) < block { sched_yield() }
        for sequence in block * step..<(block + 1) * step where sequence & 1 == worker {
          if ReplayWindow.accept(shared.sa, sequence: UInt64(sequence + 1)) == .accepted { passed += 1 }
        }
        shared.progress[worker].store(block + 1, ordering: .releasing)
      }
      shared.accepted.pointee.wrappingAdd(passed, ordering: .relaxed)
    }
    #expect(accepted.pointee.load(ordering: .relaxed) == total / step * step)
    progress.deallocate()
    accepted.deallocate()
  }
}
