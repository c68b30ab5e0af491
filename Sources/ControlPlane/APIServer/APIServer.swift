import ControlAPI
import Glibc
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// The control API: HTTP/1.1 on a Unix socket. Speaks to the gateway through `GatewayControl` alone.
public actor APIServer {
  public struct Configuration: Sendable {
    public var socketPath: String
    /// Who may connect besides root.
    public var group = "gw"
    /// Of a request's body. A rule is some 700 bytes: 100,000 of them fit, and a third more.
    public var bodyLimitBytes = 96 << 20
    public var connectionLimit = 64
    /// Where `GET /metrics`, and nothing else, is served over TCP as well.
    public var metrics: (address: String, port: UInt16)?

    public init(socketPath: String) { self.socketPath = socketPath }
  }

  /// Why the server did not start.
  public struct StartFailure: Error, CustomStringConvertible, Sendable {
    public let description: String
  }

  private let gateway: any GatewayControl
  private let configuration: Configuration
  private let logger: Logger
  private let gate = RequestGate()
  private var serving: Task<Void, Never>?
  private var servingMetrics: Task<Void, Never>?
  /// One thread: requests are few, and the cores belong to the workers. Never shut down, as late tasks of a connection
  /// may still come to it.
  private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private var identity: [UInt64]?

  public init(gateway: any GatewayControl, configuration: Configuration, logger: Logger) {
    self.gateway = gateway
    self.configuration = configuration
    self.logger = logger
  }

  /// Returns when clients can connect. To be called once.
  public func start() async throws(StartFailure) {
    precondition(serving == nil, "started twice")
    let socket: ControlSocket
    do { socket = try ControlSocket(path: configuration.socketPath, group: configuration.group) } catch {
      throw StartFailure(description: error.description)
    }
    let outcome = await run(at: socket.path, { serving = $0 }) { once in application(socket, once) }
    if let failure = outcome {
      socket.discard()
      await stop()
      throw StartFailure(description: failure)
    }
    identity = ControlSocket.identity(of: configuration.socketPath)
    guard let (address, port) = configuration.metrics else { return }
    let place = "\(address) port \(port)"
    if let failure = await run(
      at: place, { servingMetrics = $0 }, { once in metricsApplication(address, Int(port), place, once) })
    {
      await stop()
      throw StartFailure(description: "metrics: \(failure)")
    }
  }

  /// Runs an application until it is cancelled; returns when it listens, nil, or what went wrong.
  private func run(
    at place: String, _ keep: (Task<Void, Never>) -> Void,
    _ make: (StartContinuation) -> some ApplicationProtocol
  ) async -> String? {
    await withCheckedContinuation { continuation in
      let once = StartContinuation(continuation)
      let application = make(once)
      keep(
        Task { [logger] in
          do {
            try await application.run()
            once.resume("the server ended before it began")
          } catch {
            if !once.resume("cannot listen at \(place): \(error)") && !(error is CancellationError) {
              logger.error("control API: \(error)")
            }
          }
        })
    }
  }

  /// Takes the socket away, lets requests that run finish, ends event streams, and returns.
  /// - Parameter grace: how long requests may take.
  public func stop(grace: Duration = .seconds(2)) async {
    gate.close()
    if let identity, ControlSocket.identity(of: configuration.socketPath) == identity {
      unlink(configuration.socketPath)
    }
    identity = nil
    let deadline = ContinuousClock.now + grace
    while !gate.isIdle, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(5)) }
    for task in [serving, servingMetrics] {
      task?.cancel()
      await task?.value
    }
    (serving, servingMetrics) = (nil, nil)
  }

  private func application(
    _ socket: ControlSocket, _ once: StartContinuation
  ) -> some ApplicationProtocol {
    let logger = logger
    return Application(
      router: routes.router(), server: .http1(configuration: Self.http),
      configuration: ApplicationConfiguration(
        address: .unixDomainSocket(path: socket.bindPath),
        availableConnectionsDelegate: MaximumAvailableConnections(configuration.connectionLimit)),
      onServerRunning: { _ in
        do {
          let mode = try socket.publish()
          logger.info("control API at \(socket.path), mode \(mode)")
          once.resume(nil)
        } catch { once.resume("\(error)") }
      },
      eventLoopGroupProvider: .shared(Self.group), logger: quiet)
  }

  private func metricsApplication(
    _ host: String, _ port: Int, _ place: String, _ once: StartContinuation
  ) -> some ApplicationProtocol {
    let logger = logger
    return Application(
      router: routes.metricsRouter(), server: .http1(configuration: Self.http),
      configuration: ApplicationConfiguration(
        address: .hostname(host, port: port),
        availableConnectionsDelegate: MaximumAvailableConnections(configuration.connectionLimit)),
      onServerRunning: { _ in
        logger.info("metrics at \(place)")
        once.resume(nil)
      },
      eventLoopGroupProvider: .shared(Self.group), logger: quiet)
  }

  private var routes: APIRoutes {
    APIRoutes(gateway: gateway, bodyLimit: configuration.bodyLimitBytes, gate: gate)
  }

  private var quiet: Logger {
    var quiet = logger
    quiet.logLevel = max(logger.logLevel, .warning)
    return quiet
  }

  private static var http: HTTP1Channel.Configuration {
    HTTP1Channel.Configuration(
      idleTimeout: .seconds(60),
      httpDecoderConfiguration: .init(
        maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))
  }
}

/// The first outcome of a start counts: nil, or what went wrong.
private final class StartContinuation: Sendable {
  private let continuation: Mutex<CheckedContinuation<String?, Never>?>
  init(_ continuation: CheckedContinuation<String?, Never>) { self.continuation = Mutex(continuation) }

  /// False if an outcome was there already.
  @discardableResult func resume(_ failure: String?) -> Bool {
    let waiting = continuation.withLock { waiting in
      defer { waiting = nil }
      return waiting
    }
    waiting?.resume(returning: failure)
    return waiting != nil
  }
}
