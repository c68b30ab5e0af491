import CLinux
import Foundation
import KeyManagement
import Synchronization
import Threads

/// A thread with an epoll loop: the control thread, which is the one writer of every table, is one, the control API's
/// another. Descriptors, timers and closures posted from elsewhere run on it, one at a time.
public final class ControlLoop: EventLoop, @unchecked Sendable {
  /// The loop has ended; what was asked of it was not done.
  public struct Ended: Error, CustomStringConvertible {
    public let description = "the thread has ended"
  }

  private struct Timer {
    var due: ContinuousClock.Instant
    var number: UInt64
    var handler: () -> Void
  }

  private struct Inbox {
    var work: [@Sendable () -> Void] = []
    var isClosed = false
  }

  private let name: String
  private let epoll: Int32
  private let wakeup: Int32
  private let inbox = Mutex(Inbox())
  private let stopping = Atomic(false)
  private var thread: JoinableThread?
  // The loop's thread's own.
  private var handlers: [Int32: (IOEvents) -> Void] = [:]
  private var timers: [Timer] = []
  private var timerNumber: UInt64 = 0
  private var takesTimers = true

  public init(name: String = "gw-control") {
    self.name = name
    epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    wakeup = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    var event = epoll_event(events: UInt32(EPOLLIN.rawValue), data: epoll_data(fd: wakeup))
    epoll_ctl(epoll, EPOLL_CTL_ADD, wakeup, &event)
  }

  deinit {
    close(epoll)
    close(wakeup)
  }

  // MARK: Any thread

  public func start() throws {
    thread = try JoinableThread(name: name) { [self] in run() }
  }

  /// What was posted before still runs; the thread has ended when this returns. Not on the loop's thread.
  public func stop() {
    stopping.store(true, ordering: .releasing)
    wake()
    thread?.join()
    thread = nil
  }

  /// False: the loop has ended, and `work` will not run.
  @discardableResult
  public func post(_ work: @escaping @Sendable () -> Void) -> Bool {
    let isTaken = inbox.withLock { inbox in
      if !inbox.isClosed { inbox.work.append(work) }
      return !inbox.isClosed
    }
    if isTaken { wake() }
    return isTaken
  }

  /// Runs `work` on the loop's thread and waits. Not on that thread, nor in a Task.
  public func sync<Result>(_ work: @escaping () throws -> Result) throws -> Result {
    let done = DispatchSemaphore(value: 0)
    let outcome = Outcome<Result>()
    let carried = Carried(body: work)
    let isTaken = post {
      outcome.value = Swift.Result { try carried.body() }
      done.signal()
    }
    guard isTaken else { throw Ended() }
    done.wait()
    return try outcome.value!.get()
  }

  /// Runs `work` on the loop's thread; the task waits without holding a thread.
  public func call<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
      let isTaken = post { continuation.resume(with: Swift.Result { try work() }) }
      if !isTaken { continuation.resume(throwing: Ended()) }
    }
  }

  private final class Outcome<Value>: @unchecked Sendable { var value: Swift.Result<Value, any Error>? }
  /// The caller waits, so what the closure holds is used by one thread at a time.
  private struct Carried<Value>: @unchecked Sendable { let body: () throws -> Value }

  private func wake() {
    var one: UInt64 = 1
    _ = write(wakeup, &one, 8)
  }

  // MARK: The loop's thread

  public func watch(_ descriptor: Int32, for events: IOEvents, handler: @escaping (IOEvents) -> Void) {
    var mask: UInt32 = 0
    if events.contains(.readable) { mask |= UInt32(EPOLLIN.rawValue) }
    if events.contains(.writable) { mask |= UInt32(EPOLLOUT.rawValue) }
    var event = epoll_event(events: mask, data: epoll_data(fd: descriptor))
    let operation = handlers[descriptor] == nil ? EPOLL_CTL_ADD : EPOLL_CTL_MOD
    handlers[descriptor] = handler
    epoll_ctl(epoll, operation, descriptor, &event)
  }

  public func unwatch(_ descriptor: Int32) {
    guard handlers.removeValue(forKey: descriptor) != nil else { return }
    epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, nil)
  }

  public func schedule(after delay: Duration, _ handler: @escaping () -> Void) {
    guard takesTimers else { return }
    timerNumber += 1
    let timer = Timer(due: .now + delay, number: timerNumber, handler: handler)
    let index = timers.firstIndex { $0.due > timer.due } ?? timers.count
    timers.insert(timer, at: index)
  }

  /// Again and again, `interval` apart.
  public func every(_ interval: Duration, _ handler: @escaping () -> Void) {
    schedule(after: interval) { [weak self] in
      handler()
      self?.every(interval, handler)
    }
  }

  /// Nothing is done by the clock from now on.
  public func endTimers() {
    takesTimers = false
    timers = []
  }

  private func run() {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
      while true {
        let count = epoll_wait(epoll, events.baseAddress!, 64, timeout())
        for index in 0..<max(0, Int(count)) { dispatch(events[index]) }
        runPosted()
        runTimers()
        if stopping.load(ordering: .acquiring) { return runLast() }
      }
    }
  }

  private func timeout() -> Int32 {
    guard let next = timers.first else { return -1 }
    let wait = ContinuousClock.now.duration(to: next.due)
    let milliseconds = wait.components.seconds * 1000 + wait.components.attoseconds / 1_000_000_000_000_000
    return Int32(clamping: max(0, milliseconds + 1))
  }

  private func dispatch(_ event: epoll_event) {
    if event.data.fd == wakeup {
      var count: UInt64 = 0
      _ = read(wakeup, &count, 8)
      return
    }
    var ready: IOEvents = []
    if event.events & UInt32(EPOLLIN.rawValue) != 0 { ready.insert(.readable) }
    if event.events & UInt32(EPOLLOUT.rawValue) != 0 { ready.insert(.writable) }
    if event.events & UInt32(EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 { ready.insert(.hangup) }
    handlers[event.data.fd]?(ready)
  }

  private func runPosted() {
    let work = inbox.withLock { inbox in
      defer { inbox.work = [] }
      return inbox.work
    }
    for one in work { one() }
  }

  /// From here on nothing is taken; what was is done.
  private func runLast() {
    inbox.withLock { $0.isClosed = true }
    runPosted()
  }

  private func runTimers() {
    let now = ContinuousClock.now
    while let first = timers.first, first.due <= now {
      timers.removeFirst()
      first.handler()
    }
  }
}
