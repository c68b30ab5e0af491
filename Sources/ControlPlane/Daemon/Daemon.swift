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

  private func run(
    _ configuration: GatewayConfiguration, _ paths: GatewayPaths, _ signals: sigset_t
  ) -> ExitStatus {
    let logger = Logger(label: "gwd")
    let loop = ControlLoop()
    loop.start()
    var made: Gateway?
    do {
      let gateway = try loop.sync { try Gateway(configuration, paths: paths, loop: loop, logger: logger) }
      made = gateway
      try loop.sync { try gateway.start() }
      let server = try startServer(gateway, paths, configuration.metrics, logger)
      wait(for: signals, gateway, loop, logger)
      Self.wait { await server.stop() }
      try loop.sync { gateway.stop() }
      loop.stop()
      return .stopped
    } catch {
      if let made { try? loop.sync { made.stop() } }
      loop.stop()
      logger.critical("\(error)")
      return Self.status(of: error)
    }
  }

  private func startServer(
    _ gateway: Gateway, _ paths: GatewayPaths, _ metrics: GatewayConfiguration.Metrics?, _ logger: Logger
  ) throws -> APIServer {
    var configuration = APIServer.Configuration(socketPath: paths.controlSocket)
    configuration.metrics = metrics.map { ("\($0.address)", $0.port) }
    let server = APIServer(gateway: GatewayService(gateway), configuration: configuration, logger: logger)
    var failure: APIServer.StartFailure?
    failure = Self.wait { () -> APIServer.StartFailure? in
      do throws(APIServer.StartFailure) {
        try await server.start()
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
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

  private static func wait<Result: Sendable>(_ body: @escaping @Sendable () async -> Result) -> Result {
    let done = DispatchSemaphore(value: 0)
    let box = Box<Result>()
    Task.detached {
      box.value = await body()
      done.signal()
    }
    done.wait()
    return box.value!
  }

  private final class Box<Value>: @unchecked Sendable { var value: Value? }

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

  /// `--check`: reads both files and says what is wrong; touches nothing.
  public func check() -> ExitStatus {
    do {
      let configuration = try GatewayConfiguration(contentsOf: configurationPath)
      if let file = configuration.ipsec {
        let rules = try IPsecConf.parse(file: file)
        for diagnostic in rules.diagnostics + rules.cautions { Self.complain("\(diagnostic)") }
        _ = try rules.transaction(allowWeak: configuration.allowWeak)
        let agent = IKEAgent(.init(daemon: configuration.ike, runDirectory: configuration.runDirectory)) { _, _ in }
        for status in agent.check(try rules.connections()) {
          Self.complain("\(status.file): \(status.line): \(status.name): \(status.reason ?? "")")
        }
      }
      return .stopped
    } catch let error as IPsecConfError {
      for diagnostic in error.diagnostics { Self.complain("\(diagnostic)") }
      return .configuration
    } catch {
      Self.complain("\(error)")
      return .configuration
    }
  }
}
