import Foundation
import Synchronization
import Testing
import Threads

@testable import ControlPlane

@Suite struct ControlLoopTests {
  private static func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
  }

  /// What is posted runs, or who posts it is told: whatever the moment at which the loop stops.
  @Test func nothingIsLostAroundAStop() async throws {
    for _ in 0..<200 {
      let loop = ControlLoop()
      try loop.start()
      let taken = Atomic(0)
      let ran = Mutex(0)
      try await Self.blocking {
        let posting = try JoinableThread(name: "posting") {
          while loop.post({ ran.withLock { $0 += 1 } }) { taken.add(1, ordering: .relaxed) }
        }
        usleep(200)
        loop.stop()
        posting.join()
      }
      #expect(ran.withLock { $0 } == taken.load(ordering: .relaxed))
      await #expect(throws: ControlLoop.Ended.self) { try await loop.call {} }
      #expect(throws: ControlLoop.Ended.self) { try loop.sync {} }
      loop.stop()
    }
  }

  @Test func noTimerAfterTheirEnd() async throws {
    let loop = ControlLoop()
    try loop.start()
    let ticks = Atomic(0)
    let after = try await Self.blocking {
      try loop.sync { loop.every(.milliseconds(1)) { ticks.add(1, ordering: .relaxed) } }
      while ticks.load(ordering: .relaxed) < 3 { usleep(1000) }
      return try loop.sync {
        loop.endTimers()
        loop.schedule(after: .zero) { ticks.add(1, ordering: .relaxed) }
        return ticks.load(ordering: .relaxed)
      }
    }
    try await Task.sleep(for: .milliseconds(50))
    #expect(ticks.load(ordering: .relaxed) == after)
    try await Self.blocking { loop.stop() }
  }

  /// The destructors of its thread-local state have run: the thread is not there any more.
  @Test func aJoinedThreadIsGone() async throws {
    let name = "t\(UInt32.random(in: 0...UInt32.max))"
    func isThere() -> Bool {
      let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
      return tasks.contains { task in
        (try? String(contentsOfFile: "/proc/self/task/\(task)/comm", encoding: .utf8)) == name + "\n"
      }
    }
    let interrupt = Interrupt()
    let thread = try JoinableThread(name: name) { while !interrupt.isRaised { usleep(1000) } }
    for _ in 0..<1000 where !isThere() { try await Task.sleep(for: .milliseconds(1)) }
    #expect(isThere())
    interrupt.raise()
    try await Self.blocking {
      thread.join()
      thread.join()
    }
    #expect(!isThere() && interrupt.isRaised)
  }
}
