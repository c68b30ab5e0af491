import Engines
import Foundation
import IPsec
import KeyManagement
import Synchronization

/// Both key sockets before a database, on a thread of their own, as the control thread has them.
final class TestGateway: @unchecked Sendable {
  enum Database: Sendable { case memory, real }

  /// Only touched on the loop's thread.
  final class State {
    let store: any SecurityStore
    let loop = PollLoop()
    let xfrm: XFRMService
    let pfkey: PFKeyService
    let xfrmServer: KeySocketServer
    let pfkeyServer: KeySocketServer
    var closed: [(owner: Owner, wasDaemon: Bool)] = []
    private(set) var ikeServer: IKESocketServer!
    /// The IKE sockets that were named, and what is said to those who name more.
    var named: [(inode: UInt64, takesESP: Bool)] = []
    var refusal: Int32 = 0

    /// Where the test emits events itself.
    var memory: MemoryStore { store as! MemoryStore }

    init(directory: String, database: Database, limits: KeyConnectionLimits) throws {
      let store: any SecurityStore =
        database == .memory
        ? MemoryStore()
        : SecurityDatabase(engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
      self.store = store
      let (xfrm, pfkey) = (XFRMService(store: store), PFKeyService(store: store))
      (self.xfrm, self.pfkey) = (xfrm, pfkey)
      xfrmServer = KeySocketServer(
        path: directory + "/xfrm.sock", kind: .xfrm, loop: loop, limits: limits, allowedUser: getuid()
      ) { xfrm.makeSession(owner: $0.owner, origin: $0.origin, output: $1) }
      pfkeyServer = KeySocketServer(
        path: directory + "/pfkey.sock", kind: .pfkey, loop: loop, limits: limits, allowedUser: getuid()
      ) { pfkey.makeSession(owner: $0.owner, origin: $0.origin, output: $1) }
      ikeServer = IKESocketServer(path: directory + "/ike.sock", loop: loop, allowedUser: getuid()) {
        [unowned self] descriptor, takesESP in
        var file = stat()
        fstat(descriptor, &file)
        close(descriptor)
        if refusal == 0 { named.append((UInt64(file.st_ino), takesESP)) }
        return refusal
      }
      try ikeServer.start()
      for server in [xfrmServer, pfkeyServer] {
        try server.start()
        server.connectionClosed = { [unowned self] in closed.append(($0, $1)) }
      }
    }

    func stop() {
      ikeServer.stop()
      xfrmServer.stop()
      pfkeyServer.stop()
    }
  }

  let directory: String
  private let work = Mutex<[@Sendable (State) -> Void]>([])
  private let isStopped = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)

  init(_ database: Database = .real, limits: KeyConnectionLimits = KeyConnectionLimits()) throws {
    directory = NSTemporaryDirectory() + "keymgmt-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let ready = DispatchSemaphore(value: 0)
    Thread.detachNewThread { [self] in
      guard let state = try? State(directory: directory, database: database, limits: limits) else {
        fatalError("no socket")
      }
      ready.signal()
      while !isStopped.load(ordering: .acquiring) {
        state.loop.turn(milliseconds: 5)
        for task in work.withLock({ tasks in
          defer { tasks = [] }
          return tasks
        }) { task(state) }
      }
      state.stop()
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
