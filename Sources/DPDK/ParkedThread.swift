import Foundation
import Threads

/// A thread of its own that runs what it is given and sleeps in between: EAL binds the thread that initialises it to
/// cores, and what that thread starts inherits its signal mask.
final class ParkedThread: @unchecked Sendable {
  private let condition = NSCondition()
  private var work: (() -> Void)?
  private var isStopped = false
  private var thread: JoinableThread?

  init(name: String) throws(EALError) {
    do throws(JoinableThread.Failure) {
      thread = try JoinableThread(name: name) { [self] in
        // Signals are the control thread's; faults stay deliverable.
        var signals = sigset_t()
        sigfillset(&signals)
        for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP] { sigdelset(&signals, fault) }
        pthread_sigmask(SIG_SETMASK, &signals, nil)
        loop()
      }
    } catch {
      throw .thread(error.code)
    }
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

  /// Its thread has ended when this returns.
  func stop() {
    condition.withLock {
      isStopped = true
      condition.broadcast()
    }
    thread?.join()
  }

  private func loop() {
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
