import CDPDK
import Synchronization

/// Workers of several gateways on one core. What is handed to `workerTurnsMain`.
struct WorkerTurns {
  var jobs: UnsafeMutablePointer<WorkerJob>
  var count: Int

  /// A round of each until one is told to stop. They neither rest nor help others.
  func run() {
    for index in 0..<count { jobs[index].queue.online() }
    var isRunning = true
    while isRunning {
      var index = 0
      while index < count {
        let w = jobs[index].worker
        _ = WorkerLoop.round(w, cdpdk_cycles())
        jobs[index].queue.report()
        w.tally(.loops, 1)
        isRunning = isRunning && !w.pointee.shared.pointee.stop.load(ordering: .relaxed)
        index &+= 1
      }
    }
    for index in 0..<count {
      TransmitStage.flushAll(jobs[index].worker)
      jobs[index].queue.offline()
    }
  }
}

/// What a core runs that gateways share.
func workerTurnsMain(_ context: UnsafeMutableRawPointer?) -> Int32 {
  context.unsafelyUnwrapped.assumingMemoryBound(to: WorkerTurns.self).pointee.run()
  return 0
}
