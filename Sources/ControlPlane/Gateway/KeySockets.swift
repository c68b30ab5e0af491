import ConfigurationFiles
import IPsec
import KeyManagement
import Logging

/// The key daemons' two sockets, and what becomes of a daemon's SAs when it goes. Control thread.
final class KeySockets {
  private let xfrmService: XFRMService
  private let pfkeyService: PFKeyService
  private let servers: [KeySocketServer]
  private let database: SecurityDatabase
  private let loop: ControlLoop
  private let logger: Logger
  var onExit: GatewayConfiguration.IKEExit

  init(
    paths: GatewayPaths, database: SecurityDatabase, loop: ControlLoop, configuration: GatewayConfiguration,
    logger: Logger
  ) throws {
    self.database = database
    self.loop = loop
    self.logger = logger
    onExit = configuration.onIKEExit
    var policy = KeyPolicy()
    policy.allowsWeakAlgorithms = configuration.allowWeak
    let xfrm = XFRMService(store: database, policy: policy)
    let pfkey = PFKeyService(store: database, policy: policy)
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
    for server in servers {
      server.connectionClosed = { [unowned self] owner, wasDaemon in if wasDaemon { daemonLeft(owner) } }
      try server.start()
    }
  }

  func stop() {
    for server in servers { server.stop() }
    xfrmService.shutDown()
    pfkeyService.shutDown()
  }

  var daemons: [(owner: Owner, process: Int32)] {
    servers.flatMap(\.clients).filter(\.isDaemon).map { ($0.owner, $0.process) }
  }

  /// `on-ike-exit`: what it had installed stays, goes at once, or goes unless a daemon is back in time.
  private func daemonLeft(_ owner: Owner) {
    switch onExit {
    case .keep:
      logger.notice("key daemon \(owner) left; its SAs and policies stay")
    case .flush:
      logger.notice("key daemon \(owner) left; its SAs and policies are flushed")
      flush(owner)
    case .hold(let seconds):
      logger.notice("key daemon \(owner) left; its SAs and policies stay for \(seconds) s")
      loop.schedule(after: .seconds(seconds)) { [weak self] in
        guard let self, !daemons.contains(where: { $0.owner == owner }) else { return }
        logger.notice("key daemon \(owner) did not come back; its SAs and policies are flushed")
        flush(owner)
      }
    }
  }

  private func flush(_ owner: Owner) {
    database.flushPolicies(owner: owner, origin: 0)
    database.flushSAs(nil, owner: owner, origin: 0)
  }
}
