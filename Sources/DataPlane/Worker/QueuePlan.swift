import DPDK

/// Which worker polls which receive queue, and which one sends by which transmit queue.
struct QueuePlan {
  /// [port][worker]: the queue, or nil.
  private(set) var rx: [[UInt16?]]
  private(set) var tx: [[UInt16?]]

  init(ports: [EthernetPort], workers: Int) {
    self.init(queues: ports.map { ($0.receiveQueues, $0.transmitQueues) }, workers: workers)
  }

  /// One queue a worker where the port has as many; otherwise its queues go round the workers, and its transmit queues
  /// to the workers that receive on the next port: what comes in there goes out here.
  init(queues: [(rx: Int, tx: Int)], workers: Int) {
    rx = queues.map { _ in [UInt16?](repeating: nil, count: workers) }
    tx = rx
    var next = 0
    for (port, count) in queues.enumerated() {
      for queue in 0..<min(count.rx, workers) {
        let worker = count.rx >= workers ? queue : next % workers
        if count.rx < workers { next += 1 }
        rx[port][worker] = UInt16(queue)
      }
    }
    for (port, count) in queues.enumerated() {
      guard count.tx < workers else {
        for worker in 0..<workers { tx[port][worker] = UInt16(worker) }
        continue
      }
      let neighbor = (port + 1) % queues.count
      let busy = (0..<workers).filter { rx[neighbor][$0] != nil }
      let order = busy + (0..<workers).filter { !busy.contains($0) }
      for queue in 0..<count.tx { tx[port][order[queue]] = UInt16(queue) }
    }
  }

  func needsHandoff(port: Int) -> Bool { tx[port].contains { $0 == nil } && tx[port].contains { $0 != nil } }

  /// Where frames that the kernel sends by the port go: to a worker that can send them without a detour.
  func hostWorker(port: Int) -> Int { tx[port].firstIndex { $0 != nil } ?? 0 }
}
