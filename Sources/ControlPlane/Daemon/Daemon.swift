import ConfigurationFiles
import ControlAPI
import DPDK
import DataPlane
import Foundation
import IKEControl
import Logging

/// A gateway as a process: starts it, waits for signals, stops it. Called on the main thread, which it keeps.
public struct Daemon {
  public var configurationPath: String
  public var runDirectory: String?
  public var logLevel: Logger.Level?
  /// Nothing of it goes to swap.
  public var isMemoryLocked = true

  public init(configurationPath: String, runDirectory: String? = nil, logLevel: Logger.Level? = nil) {
    self.configurationPath = configurationPath
    self.runDirectory = runDirectory
    self.logLevel = logLevel
  }

  /// What a supervisor reads in the exit status (sysexits.h).
  public enum ExitStatus: Int32 {
    case stopped = 0
    case unavailable = 69
    case software = 70
    case system = 71
    case configuration = 78
  }

  /// Runs until TERM or INT.
  public func run() -> ExitStatus {
    let signals = Self.blockSignals()
    let configuration: GatewayConfiguration
    do {
      configuration = try GatewayConfiguration(contentsOf: configurationPath)
    } catch {
      Self.complain("\(error)")
      return .configuration
    }
    let level = logLevel ?? Logger.Level(rawValue: configuration.logLevel.rawValue) ?? .info
    LoggingSystem.bootstrap { DaemonLog(label: $0, level: level) }
    // A second gateway must not share the first one's state; where the file names a place for it, that is its own.
    let namesState = configuration.stateDirectory != GatewayConfiguration().stateDirectory
    let ownState = namesState ? nil : runDirectory.map { $0 + "/state" }
    let paths = GatewayPaths(
      configuration: configurationPath, runDirectory: runDirectory ?? configuration.runDirectory,
      stateDirectory: ownState ?? configuration.stateDirectory)
    return run(configuration, paths, signals)
  }

  /// From start to stop. The stop, whose every step ends before the next begins:
  ///
  ///     main thread                          control thread               others
  ///     signal
  ///     API, /metrics: nobody new ---------------------------------------> gw-api
  ///     wait ------------------------------> what was asked before
  ///                                          no timer any more
  ///                                          key sockets closed
  ///                                          key daemon's thread joined --> gw-ike, gw-capture, gw-report
  ///                                          workers leave their loops ---> rte-worker-N
  ///                                          host path joined, ports closed gw-host
  ///                                          numbers and policies on disk
  ///                                          EAL cleaned up --------------> gw-eal joined
  ///     API: answers end, thread joined ---------------------------------> gw-api
  ///     control thread joined -------------> ends
  ///     last line of the log, _exit
  ///
  /// What has to be kept is saved whatever clients of the API do. What cannot be joined (EAL's interrupt and worker
  /// threads, Swift's pool) sleeps by then and runs nothing: _exit calls no handler that could take a library from under
  /// it.
  private func run(
    _ configuration: GatewayConfiguration, _ paths: GatewayPaths, _ signals: sigset_t
  ) -> ExitStatus {
    let logger = Logger(label: "gwd")
    if !isMemoryLocked {
      logger.warning(
        "memory cannot be locked, so keys may go to swap: CAP_IPC_LOCK or LimitMEMLOCK=infinity is missing")
    }
    let serviceManager = ServiceManager()
    let loop = ControlLoop()
    var gateway: Gateway?
    var server: APIServer?
    var failure: (any Error)?
    do {
      try loop.start()
      let made = try loop.sync { try Gateway(configuration, paths: paths, loop: loop, logger: logger) }
      gateway = made
      try loop.sync { try made.start() }
      server = try startServer(made, paths, configuration.metrics, logger)
      serviceManager?.ready()
      loop.post { made.serviceManager = serviceManager }
      wait(for: signals, made, loop, logger)
    } catch {
      failure = error
    }
    serviceManager?.stopping()
    server?.close()
    if let gateway { try? loop.sync { gateway.stop() } }
    server?.stop()
    loop.stop()
    guard let failure else {
      logger.info("gwd stopped")
      return .stopped
    }
    logger.critical("\(failure)")
    return Self.status(of: failure)
  }

  /// Ends the process as it is: nothing is to be cleaned up any more, and what a library would do at exit could meet
  /// threads that are not ours to join.
  public static func leave(_ status: ExitStatus) -> Never {
    fflush(nil)
    _exit(status.rawValue)
  }

  private func startServer(
    _ gateway: Gateway, _ paths: GatewayPaths, _ metrics: GatewayConfiguration.Metrics?, _ logger: Logger
  ) throws(APIServer.StartFailure) -> APIServer {
    var configuration = APIServer.Configuration(socketPath: paths.controlSocket)
    configuration.metrics = metrics.map { ("\($0.address)", $0.port) }
    let server = APIServer(gateway: GatewayService(gateway), configuration: configuration, logger: logger)
    try server.start()
    return server
  }

  // MARK: Signals

  /// In every thread that comes after; the main thread waits for them.
  private static func blockSignals() -> sigset_t {
    signal(SIGPIPE, SIG_IGN)
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    return set
  }

  private func wait(for signals: sigset_t, _ gateway: Gateway, _ loop: ControlLoop, _ logger: Logger) {
    var signals = signals
    while true {
      var number: Int32 = 0
      guard sigwait(&signals, &number) == 0 else { continue }
      switch number {
      case SIGHUP: loop.post { _ = gateway.reload() }
      case SIGUSR1: loop.post { gateway.writeReport() }
      default:
        logger.notice("signal \(number): stopping")
        return
      }
    }
  }

  // MARK: Odds and ends

  private static func status(of error: any Error) -> ExitStatus {
    switch error {
    case is ConfigurationError, is IPsecConfError: .configuration
    case GatewayError.rules: .configuration
    case is EALError, is PortError, is TapError, is GatewayError, is MempoolError: .unavailable
    case is DataPlaneError: .unavailable
    default: .software
    }
  }

  public static func complain(_ message: String) {
    FileHandle.standardError.write(Data("gwd: \(message)\n".utf8))
  }
}
