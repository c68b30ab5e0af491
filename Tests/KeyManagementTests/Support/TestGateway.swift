import Foundation
import IPsec
import KeyManagement
import Synchronization

/// Both key sockets before a MemoryStore, on a thread of their own, as the control thread has them.
final class TestGateway: @unchecked Sendable {
  /// Only touched on the loop's thread.
  final class State {
    let store = MemoryStore()
    let loop = PollLoop()
    let xfrm: XFRMService
    let xfrmServer: KeySocketServer
    var closed: [(owner: Owner, wasDaemon: Bool)] = []

    init(directory: String, limits: KeyConnectionLimits) throws {
      let xfrm = XFRMService(store: store)
      self.xfrm = xfrm
      xfrmServer = KeySocketServer(
        path: directory + "/xfrm.sock", kind: .xfrm, loop: loop, limits: limits, allowedUser: getuid()
      ) { client, output in
        xfrm.makeSession(owner: client.owner, origin: client.origin, output: output)
      }
      try xfrmServer.start()
      xfrmServer.connectionClosed = { [unowned self] in closed.append(($0, $1)) }
    }
  }

  let directory: String
  private let work = Mutex<[@Sendable (State) -> Void]>([])
  private let isStopped = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)

  init(limits: KeyConnectionLimits = KeyConnectionLimits()) throws {
    directory = NSTemporaryDirectory() + "keymgmt-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let ready = DispatchSemaphore(value: 0)
    Thread.detachNewThread { [self] in
      guard let state = try? State(directory: directory, limits: limits) else { fatalError("no socket") }
      ready.signal()
      while !isStopped.load(ordering: .acquiring) {
        state.loop.turn(milliseconds: 5)
        for task in work.withLock({ tasks in
          defer { tasks = [] }
          return tasks
        }) { task(state) }
      }
      state.xfrmServer.stop()
      ended.signal()
    }
    ready.wait()
  }

  /// Runs `body` on the loop's thread and waits for it.
  func run<Result: Sendable>(_ body: @escaping @Sendable (State) -> Result) -> Result {
    let done = DispatchSemaphore(value: 0)
    let box = Mutex<Result?>(nil)
    work.withLock {
      $0.append { state in
        let result = body(state)
        box.withLock { $0 = result }
        done.signal()
      }
    }
    done.wait()
    return box.withLock { $0! }
  }

  /// Until `condition` holds; gives up after two seconds.
  func wait(until condition: @escaping @Sendable (State) -> Bool) {
    let deadline = ContinuousClock.now + .seconds(2)
    while ContinuousClock.now < deadline, !run(condition) {}
  }

  func stop() {
    isStopped.store(true, ordering: .releasing)
    ended.wait()
    try? FileManager.default.removeItem(atPath: directory)
  }
}
