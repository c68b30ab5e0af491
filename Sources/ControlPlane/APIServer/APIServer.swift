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
    public var bodyLimitBytes = 16 << 20
    public var connectionLimit = 64

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
    let outcome = await withCheckedContinuation { continuation in
      let once = StartContinuation(continuation)
      let application = application(socket, once)
      serving = Task { [logger] in
        do {
          try await application.run()
          once.resume("the server ended before it began")
        } catch {
          if !once.resume("cannot listen at \(socket.path): \(error)") && !(error is CancellationError) {
            logger.error("control API: \(error)")
          }
        }
      }
    }
    if let failure = outcome {
      socket.discard()
      await stop()
      throw StartFailure(description: failure)
    }
    identity = ControlSocket.identity(of: configuration.socketPath)
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
    serving?.cancel()
    await serving?.value
    serving = nil
  }

  private func application(
    _ socket: ControlSocket, _ once: StartContinuation
  ) -> some ApplicationProtocol {
    var quiet = logger
    quiet.logLevel = max(logger.logLevel, .warning)
    let routes = APIRoutes(gateway: gateway, bodyLimit: configuration.bodyLimitBytes, gate: gate)
    let http = HTTP1Channel.Configuration(
      idleTimeout: .seconds(60),
      httpDecoderConfiguration: .init(
        maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))
    let logger = logger
    return Application(
      router: routes.router(), server: .http1(configuration: http),
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
