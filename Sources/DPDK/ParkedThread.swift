import CDPDK
import Foundation
import Synchronization

/// A thread of its own that runs what it is given and sleeps in between: EAL binds the thread that initialises it to
/// cores, and what that thread starts inherits its signal mask.
final class ParkedThread: @unchecked Sendable {
  private let condition = NSCondition()
  private var work: (() -> Void)?
  private var isStopped = false

  init(name: String) throws(EALError) {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(ThreadStart(parked: self, name: name))
    let code = pthread_create(&thread, nil, { runParkedThread($0) }, context.toOpaque())
    guard code == 0 else {
      context.release()
      throw .thread(code)
    }
    pthread_detach(thread)
  }

  /// Runs `body` on the thread and waits for it. Not from the thread itself.
  func run<R>(_ body: @escaping () -> R) -> R {
    var result: R?
    condition.lock()
    while work != nil { condition.wait() }
    work = { result = body() }
    condition.broadcast()
    while result == nil { condition.wait() }
    condition.unlock()
    return result!
  }

  func stop() {
    condition.withLock {
      isStopped = true
      condition.broadcast()
    }
  }

  fileprivate func loop() {
    condition.lock()
    while !isStopped {
      guard let next = work else {
        condition.wait()
        continue
      }
      condition.unlock()
      next()
      condition.lock()
      work = nil
      condition.broadcast()
    }
    condition.unlock()
  }
}

private final class ThreadStart {
  let parked: ParkedThread
  let name: String
  init(parked: ParkedThread, name: String) {
    self.parked = parked
    self.name = name
  }
}

private func runParkedThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  let start = Unmanaged<ThreadStart>.fromOpaque(context).takeRetainedValue()
  cdpdk_thread_name(start.name)
  // Signals are the control thread's; faults stay deliverable.
  var signals = sigset_t()
  sigfillset(&signals)
  for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP] { sigdelset(&signals, fault) }
  pthread_sigmask(SIG_SETMASK, &signals, nil)
  start.parked.loop()
  return nil
}
