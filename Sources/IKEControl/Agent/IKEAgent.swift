import CLinux
import ConfigurationFiles
import Foundation
import Synchronization
import Threads

/// Gives a key daemon the `ike` rules, on a thread of its own: the daemon may come late, go and come back, and think for
/// long. Every public call returns at once, but for those marked async.
public final class IKEAgent: Sendable {
  public enum Level: Sendable { case info, notice, warning, error }
  public typealias Log = @Sendable (Level, String) -> Void

  public struct Settings: Sendable, Equatable {
    public var daemon: KeyDaemon
    /// For the iked.conf that is written for iked.
    public var runDirectory: String
    public init(daemon: KeyDaemon, runDirectory: String) {
      self.daemon = daemon
      self.runDirectory = runDirectory
    }
    var ikedFile: String { runDirectory + "/iked.conf" }
  }

  /// What the thread is to bring about.
  struct Order: Sendable {
    var settings: Settings
    var rules: [IKEConnection] = []
    /// Names of rules that the operator took down.
    var held: Set<String> = []
    /// Also without rules: charon has connections of its own, and is asked what they are called.
    var watches = false
    /// Rises with every change.
    var generation: UInt64 = 1
    var isStopping = false
  }

  private struct State: Sendable {
    var order: Order
    /// The generation that was tried last.
    var tried: UInt64 = 0
    var status: KeyDaemonStatus
    var notes = TunnelNotes()
    var news = TunnelNews()
    var waiters: [(generation: UInt64, continuation: CheckedContinuation<Void, Never>)] = []
  }

  private let state: Mutex<State>
  private let wakeup: Int32
  private let log: Log
  private let thread = Mutex<JoinableThread?>(nil)
  /// Raised by `stop`: ends what the thread waits for.
  let interrupt = Interrupt()

  public init(_ settings: Settings, log: @escaping Log) {
    state = Mutex(State(order: Order(settings: settings), status: Self.idle(settings)))
    wakeup = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    self.log = log
  }

  deinit { close(wakeup) }

  private static func idle(_ settings: Settings) -> KeyDaemonStatus {
    let daemon = settings.daemon
    return KeyDaemonStatus(daemon: daemon.kind, socketPath: daemon.kind == .iked ? daemon.control : daemon.vici)
  }

  public func start() throws {
    let thread = try JoinableThread(name: "gw-ike") { [self] in IKEAgentThread(self).run() }
    self.thread.withLock { $0 = thread }
  }

  /// What the daemon has stays with it. The thread has ended when this returns; a daemon that does not answer (it may wait
  /// for the caller's thread itself) does not hold it up.
  public func stop() {
    change { $0.isStopping = true }
    interrupt.raise()
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
    finish()
  }

  // MARK: Orders

  private func change(_ body: (inout Order) -> Void) {
    state.withLock {
      body(&$0.order)
      $0.order.generation += 1
    }
    var one: UInt64 = 1
    _ = write(wakeup, &one, 8)
  }

  /// In place of all rules before; nil: the same. Certificates and keys are read again.
  public func replace(_ rules: [IKEConnection]?, settings: Settings? = nil) {
    change { order in
      if let rules { order.rules = rules }
      order.held.formIntersection(order.rules.map(\.name))
      if let settings { order.settings = settings }
    }
  }

  /// What the daemon that is set would be refused already here.
  public func check(_ rules: [IKEConnection]) -> [IKEConnectionStatus] {
    let daemon = settings.daemon
    let refusals =
      switch daemon.kind {
      case .charon: CharonConfiguration(rules, version: daemon.version).refusals
      case .iked: IkedConfiguration(rules).refusals
      case .none: [IKERefusal]()
      }
    return rules.compactMap { rule in
      refusals.first { $0.connection == rule.name }.map { IKEConnectionStatus(rule, .failed, reason: $0.reason) }
    }
  }

  public func add(_ rules: [IKEConnection]) {
    change { order in
      order.rules.removeAll { rule in rules.contains { $0.name == rule.name && $0.peerName == rule.peerName } }
      order.rules += rules
    }
  }

  /// - Returns: the names of those that were not there.
  public func remove(_ rules: [IKEConnection]) -> [String] {
    var missing: [String] = []
    change { order in
      for rule in rules {
        let before = order.rules.count
        order.rules.removeAll { $0.name == rule.name && $0.peerName == rule.peerName }
        if order.rules.count == before { missing.append(rule.name) }
      }
    }
    return missing
  }

  /// `held`: not asked for again on the gateway's own account; nil names: all.
  /// - Returns: false if a name is not among the rules.
  public func hold(_ names: [String]?, _ held: Bool) -> Bool {
    var known = true
    change { order in
      for name in names ?? order.rules.map(\.name) {
        guard order.rules.contains(where: { $0.name == name || $0.peerName == name }) else {
          known = false
          continue
        }
        for rule in order.rules where rule.name == name || rule.peerName == name {
          if held { order.held.insert(rule.name) } else { order.held.remove(rule.name) }
        }
      }
    }
    state.withLock { $0.news.hasStates = true }
    return known
  }

  public var status: KeyDaemonStatus {
    state.withLock { state in
      var status = state.status
      for index in status.connections.indices {
        status.connections[index].held = state.order.held.contains(status.connections[index].name)
        status.connections[index].add(state.notes)
      }
      return status
    }
  }

  /// Whether to listen to a daemon that has no rules of the gateway.
  public func watch(_ watches: Bool) { change { $0.watches = watches } }

  /// What was learnt since the last call.
  public func takeNews() -> TunnelNews? {
    state.withLock { state in
      guard !state.news.isEmpty else { return nil }
      defer { state.news = TunnelNews() }
      return state.news
    }
  }

  /// What became of the rules, without what is noted of their tunnels.
  public var connections: [IKEConnectionStatus] {
    state.withLock { state in
      guard !state.order.held.isEmpty else { return state.status.connections }
      var connections = state.status.connections
      for index in connections.indices { connections[index].held = state.order.held.contains(connections[index].name) }
      return connections
    }
  }

  public var settings: Settings { state.withLock { $0.order.settings } }

  /// The status once all that was ordered has been tried.
  public func settled() async -> KeyDaemonStatus {
    await withCheckedContinuation { continuation in
      let isDone = state.withLock { state in
        if state.tried >= state.order.generation || state.order.isStopping { return true }
        state.waiters.append((state.order.generation, continuation))
        return false
      }
      if isDone { continuation.resume() }
    }
    return status
  }

  // MARK: The thread's side

  var order: Order { state.withLock { $0.order } }
  var wakeDescriptor: Int32 { wakeup }

  func say(_ level: Level, _ text: String) { log(level, text) }

  func note(_ notes: TunnelNotes) {
    state.withLock { state in
      state.notes = notes
      state.notes.news = TunnelNews()
      state.news.add(notes.news)
    }
  }

  /// - Parameter connections: nil leaves them as they are.
  func report(
    generation: UInt64, waitingFor: String?, connections: [IKEConnectionStatus]? = nil, problems: [String]? = nil
  ) {
    let ready = state.withLock { state in
      let daemon = state.order.settings
      let idle = Self.idle(daemon)
      state.status.daemon = idle.daemon
      state.status.socketPath = idle.socketPath
      state.status.waitingFor = waitingFor
      if let connections {
        if state.status.connections != connections { state.news.hasStates = true }
        state.status.connections = connections
      }
      if let problems { state.status.problems = problems }
      state.tried = max(state.tried, generation)
      let tried = state.tried
      let ready = state.waiters.filter { $0.generation <= tried }
      state.waiters.removeAll { $0.generation <= tried }
      return ready.map(\.continuation)
    }
    for continuation in ready { continuation.resume() }
  }

  func finish() {
    let left = state.withLock { state in
      defer { state.waiters.removeAll() }
      return state.waiters.map(\.continuation)
    }
    for continuation in left { continuation.resume() }
  }
}
