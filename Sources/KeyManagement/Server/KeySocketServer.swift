import CLinux
import Glibc
import IPsec

/// Who connected.
public struct KeyClient: Sendable {
  /// Of SO_PEERCRED.
  public var process: pid_t
  /// The process, as the database knows it: connections of one process share it.
  public var owner: Owner
  /// This connection, unique among all key sockets.
  public var origin: UInt64
}

/// Counters of a key socket, for `show`.
public struct KeySocketStatistics: Sendable, Equatable {
  public var connections = 0
  public var accepted: UInt64 = 0
  /// Turned away because they are not root's.
  public var refused: UInt64 = 0
  /// Turned away because they, or their process, had too many connections.
  public var crowded: UInt64 = 0
  /// Requests answered with an error.
  public var refusedRequests: UInt64 = 0
  public var droppedNotices: UInt64 = 0
  /// Connections closed because their answers were not read.
  public var overfull: UInt64 = 0
}

/// One key socket: accepts clients of uid 0, gives each a session, moves datagrams. Control thread only.
public final class KeySocketServer {
  public enum Kind: UInt64, Sendable {
    case xfrm = 1
    case pfkey = 2
  }

  /// At a time, of all processes and of one: no client takes the descriptors of the others.
  private static let mostConnections = 512
  private static let mostOfProcess = 64
  /// Pause after the process ran out of descriptors.
  private static let acceptPause = Duration.milliseconds(200)
  private static let acceptsATurn = 32

  public let path: String
  public let kind: Kind
  private let loop: any EventLoop
  private let limits: KeyConnectionLimits
  private let allowedUser: uid_t
  private let makeSession: (KeyClient, @escaping KeyOutput) -> any KeySession
  private var listener: ListeningSocket?
  private var connections: [UInt64: KeyConnection] = [:]
  private var processes: [pid_t: Process] = [:]
  private var lastConnection: UInt64 = 0
  private var lastProcess: UInt64 = 0
  private var counters = KeySocketStatistics()

  private struct Process {
    let owner: Owner
    var connections: Int
    var wasDaemon: Bool
  }

  /// The last connection of a process closed. `wasDaemon`: one of them had asked for events (so that SAs added by `ip
  /// xfrm state add` are not taken for those of a daemon that died). Not called for connections that `stop` closes.
  public var connectionClosed: (Owner, _ wasDaemon: Bool) -> Void = { _, _ in }

  public init(
    path: String, kind: Kind, loop: any EventLoop, limits: KeyConnectionLimits = KeyConnectionLimits(),
    allowedUser: uid_t = 0, makeSession: @escaping (KeyClient, @escaping KeyOutput) -> any KeySession
  ) {
    self.path = path
    self.kind = kind
    self.loop = loop
    self.limits = limits
    self.allowedUser = allowedUser
    self.makeSession = makeSession
  }

  public func start() throws(KeySocketError) {
    let listener = try ListeningSocket(path: path)
    self.listener = listener
    watchListener(listener)
  }

  /// Closes every connection and removes the socket file.
  public func stop() {
    if let listener {
      loop.unwatch(listener.descriptor)
      listener.close()
    }
    listener = nil
    connectionClosed = { _, _ in }
    for connection in Array(connections.values) { connection.close() }
  }

  public var statistics: KeySocketStatistics {
    var statistics = counters
    statistics.connections = connections.count
    for connection in connections.values {
      statistics.droppedNotices += connection.droppedNotices
      statistics.refusedRequests += connection.refusals
    }
    return statistics
  }

  /// Owners with an open connection, each with its process.
  public var clients: [(owner: Owner, process: pid_t, isDaemon: Bool)] {
    processes.sorted { $0.key < $1.key }.map { ($0.value.owner, $0.key, isDaemon($0.key)) }
  }

  /// Of a connection that is open.
  public func process(ofOrigin origin: UInt64) -> pid_t? {
    origin >> 32 == kind.rawValue ? connections[origin & 0xffff_ffff]?.process : nil
  }

  /// Whether the owner has asked for events, by any connection that is open.
  public func isDaemon(_ owner: Owner) -> Bool {
    processes.contains { $0.value.owner == owner && isDaemon($0.key) }
  }

  private func isDaemon(_ process: pid_t) -> Bool {
    connections.values.contains { $0.process == process && $0.session?.isListener == true }
  }

  // MARK: Accepting

  private func watchListener(_ listener: ListeningSocket) {
    loop.watch(listener.descriptor, for: .readable) { [weak self] _ in self?.accept(listener) }
  }

  /// So many at a time, however many wait: the control thread has other work.
  private func accept(_ listener: ListeningSocket) {
    for _ in 0..<Self.acceptsATurn {
      let descriptor = clinux_accept(listener.descriptor)
      if descriptor >= 0 {
        admit(descriptor)
        continue
      }
      if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS { pauseAccepting(listener) }
      if errno != EINTR && errno != ECONNABORTED { return }
    }
  }

  private func pauseAccepting(_ listener: ListeningSocket) {
    loop.unwatch(listener.descriptor)
    loop.schedule(after: Self.acceptPause) { [weak self] in
      if self?.listener?.descriptor == listener.descriptor { self?.watchListener(listener) }
    }
  }

  private func admit(_ descriptor: Int32) {
    var process: pid_t = 0
    var user: uid_t = 0
    guard clinux_peer(descriptor, &process, &user) == 0, user == allowedUser else {
      counters.refused += 1
      Glibc.close(descriptor)
      return
    }
    guard connections.count < Self.mostConnections,
      processes[process].map({ $0.connections < Self.mostOfProcess }) ?? true
    else {
      counters.crowded += 1
      Glibc.close(descriptor)
      return
    }
    counters.accepted += 1
    lastConnection += 1
    let connection = KeyConnection(
      descriptor: descriptor, number: lastConnection, process: process, loop: loop, limits: limits
    ) { [weak self] in self?.forget($0) }
    connections[lastConnection] = connection
    let client = KeyClient(
      process: process, owner: owner(of: process), origin: kind.rawValue << 32 | lastConnection)
    connection.start(makeSession(client) { [weak connection] in connection?.send($0, $1) })
  }

  private func owner(of process: pid_t) -> Owner {
    if let known = processes[process] {
      processes[process]?.connections += 1
      return known.owner
    }
    lastProcess += 1
    let owner: Owner = kind == .xfrm ? .xfrm(lastProcess) : .pfkey(lastProcess)
    processes[process] = Process(owner: owner, connections: 1, wasDaemon: false)
    return owner
  }

  private func forget(_ connection: KeyConnection) {
    connections[connection.number] = nil
    counters.droppedNotices += connection.droppedNotices
    counters.refusedRequests += connection.refusals
    if connection.isOverfull { counters.overfull += 1 }
    guard var process = processes[connection.process] else { return }
    process.connections -= 1
    process.wasDaemon = process.wasDaemon || connection.wasListener
    processes[connection.process] = process.connections > 0 ? process : nil
    if process.connections == 0 { connectionClosed(process.owner, process.wasDaemon) }
  }
}
