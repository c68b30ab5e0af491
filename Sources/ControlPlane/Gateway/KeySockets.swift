import ConfigurationFiles
import ControlAPI
import IPsec
import KeyManagement
import Logging

/// The key daemons' two sockets, the one where they name their own, and what becomes of a daemon's SAs when it goes. Control thread.
final class KeySockets {
  private let xfrmService: XFRMService
  private let pfkeyService: PFKeyService
  private let servers: [KeySocketServer]
  private let ikeSocketServer: IKESocketServer
  private let database: SecurityDatabase
  private let loop: ControlLoop
  private let logger: Logger
  /// Around the end of a daemon's SAs.
  var onFlush: (() -> Void) -> Void = { $0() }
  private var onExit = GatewayConfiguration.IKEExit.keep

  init(
    paths: GatewayPaths, database: SecurityDatabase, loop: ControlLoop, configuration: GatewayConfiguration,
    logger: Logger, nameIKESocket: @escaping (_ descriptor: Int32, _ takesESP: Bool) -> Int32
  ) throws {
    self.database = database
    self.loop = loop
    self.logger = logger
    let xfrm = XFRMService(store: database)
    let pfkey = PFKeyService(store: database)
    xfrmService = xfrm
    pfkeyService = pfkey
    servers = [
      KeySocketServer(path: paths.xfrmSocket, kind: .xfrm, loop: loop) { client, output in
        xfrm.makeSession(owner: client.owner, origin: client.origin, output: output)
      },
      KeySocketServer(path: paths.pfkeySocket, kind: .pfkey, loop: loop) { client, output in
        pfkey.makeSession(owner: client.owner, origin: client.origin, output: output)
      },
    ]
    ikeSocketServer = IKESocketServer(path: paths.ikeSocket, loop: loop, take: nameIKESocket)
    // Before the others: a daemon names its sockets as soon as it finds those.
    try ikeSocketServer.start()
    follow(configuration)
    database.isKeyDaemon = { [unowned self] owner in servers.contains { $0.isDaemon(owner) } }
    for server in servers {
      server.connectionClosed = { [unowned self] owner, wasDaemon in if wasDaemon { daemonLeft(owner) } }
      try server.start()
    }
  }

  /// What gateway.yaml says of them, from now on.
  func follow(_ configuration: GatewayConfiguration) {
    onExit = configuration.onIKEExit
    var policy = KeyPolicy()
    policy.allowsWeakAlgorithms = configuration.allowWeak
    policy.allowsLowSPIs = configuration.lowSPIs
    xfrmService.policy = policy
    pfkeyService.policy = policy
  }

  func stop() {
    database.isKeyDaemon = { _ in false }
    for server in servers { server.stop() }
    ikeSocketServer.stop()
    xfrmService.shutDown()
    pfkeyService.shutDown()
  }

  var daemons: [(owner: Owner, process: Int32)] {
    servers.flatMap(\.clients).filter(\.isDaemon).map { ($0.owner, $0.process) }
  }

  /// Whose session that is; nil: nobody's who is there.
  func process(ofOrigin origin: UInt64) -> Int32? {
    origin == 0 ? nil : servers.lazy.compactMap { $0.process(ofOrigin: origin) }.first
  }

  var statuses: [KeySocketStatus] {
    servers.map { server in
      let counters = server.statistics
      var status = KeySocketStatus(name: server.kind == .xfrm ? "xfrm" : "pfkey")
      status.clients = counters.connections
      status.accepted = counters.accepted
      status.turnedAway = counters.refused + counters.crowded
      status.refusedRequests = counters.refusedRequests
      status.droppedNotices = counters.droppedNotices
      status.overfull = counters.overfull
      return status
    }
  }

  /// `on-ike-exit`: its SAs stay, go at once, or after a while, in which a daemon that is back makes new ones: it does not
  /// know these. What a daemon has taken over by then is its own. Policies stay, so that what they protect waits for SAs
  /// and does not pass in clear; a daemon that takes its leave has deleted them.
  private func daemonLeft(_ owner: Owner) {
    switch onExit {
    case .keep:
      logger.notice("key daemon \(owner) left; its SAs and policies stay")
    case .flush:
      logger.notice("key daemon \(owner) left; its SAs are deleted, its policies stay")
      flush(owner)
    case .hold(let seconds):
      logger.notice("key daemon \(owner) left; its SAs stay for \(seconds) s, its policies stay")
      loop.schedule(after: .seconds(seconds)) { [weak self] in
        self?.flush(owner)
      }
    }
  }

  private func flush(_ owner: Owner) {
    let count = database.saCount()
    onFlush { database.flushSAs(nil, owner: owner, origin: 0) }
    logger.notice("key daemon \(owner): \(count - database.saCount()) of its SAs are deleted")
  }
}
