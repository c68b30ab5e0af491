import ControlAPI
import Glibc
import KeyManagement
import Logging

/// The control API: HTTP/1.1 on a Unix socket, and /metrics on TCP where it is asked for. Speaks to the gateway through
/// `GatewayControl` alone, on a thread of its own. Every public call blocks; not from a Task.
public final class APIServer: @unchecked Sendable {
  public struct Configuration: Sendable {
    public var socketPath: String
    /// Who may connect besides root.
    public var group = "gw"
    /// Of a request's body. A rule is some 700 bytes: 100,000 of them fit, and a third more.
    public var bodyLimitBytes = 96 << 20
    /// On each of the two sockets.
    public var connectionLimit = 64
    /// Of one user but root, and of one address.
    public var connectionLimitOfPeer = 16
    /// Where `GET /metrics`, and nothing else, is served over TCP as well.
    public var metrics: (address: String, port: UInt16)?
    /// How long clients may take for what.
    var patience = HTTPConnection.Patience()

    public init(socketPath: String) { self.socketPath = socketPath }
  }

  /// Why the server did not start.
  public struct StartFailure: Error, CustomStringConvertible, Sendable {
    public let description: String
  }

  private let gateway: any GatewayControl
  private let configuration: Configuration
  private let logger: Logger
  private let loop = ControlLoop(name: "gw-api")
  /// Looks after connections that take too long.
  private static let pulse = Duration.milliseconds(250)
  private var listeners: [HTTPListener] = []
  private var identity: [UInt64]?
  private var isRunning = false

  public init(gateway: any GatewayControl, configuration: Configuration, logger: Logger) {
    self.gateway = gateway
    self.configuration = configuration
    self.logger = logger
  }

  /// Returns when clients can connect. To be called once.
  public func start() throws(StartFailure) {
    var descriptors: [Int32] = []
    do {
      let socket = try ControlSocket(path: configuration.socketPath, group: configuration.group)
      let (descriptor, standing) = try socket.listen()
      descriptors.append(descriptor)
      identity = ControlSocket.identity(of: configuration.socketPath)
      logger.info("control API at \(socket.path), \(standing)")
      if let (address, port) = configuration.metrics {
        descriptors.append(try MetricsSocket.listen(address, port))
        logger.info("metrics at \(address) port \(port)")
      }
      try loop.start()
      isRunning = true
      try run(descriptors)
    } catch {
      for descriptor in descriptors { Glibc.close(descriptor) }
      removeSocket()
      throw StartFailure(description: "\(error)")
    }
  }

  /// The control socket's, and that of /metrics.
  private func run(_ descriptors: [Int32]) throws {
    let routes = APIRoutes(gateway: gateway, logger: logger)
    let tables = [("control API", routes.all), ("metrics", routes.metricsOnly)]
    listeners = zip(descriptors, tables).map { descriptor, table in
      var settings = HTTPListener.Settings(name: table.0, bodyLimit: configuration.bodyLimitBytes)
      settings.places = ConnectionPlaces(
        all: configuration.connectionLimit, ofPeer: configuration.connectionLimitOfPeer)
      settings.patience = configuration.patience
      return HTTPListener(
        descriptor, settings, loop: loop, logger: logger, answer: { await table.1.answer($0) },
        refusal: { APIRouteTable.response(ControlError($0), status: $0.status) })
    }
    try loop.sync { [self] in
      for listener in listeners { listener.start() }
      loop.every(Self.pulse) { [weak self] in
        for listener in self?.listeners ?? [] { listener.look(at: .now) }
      }
    }
  }

  /// Nobody new: the sockets are closed and the name is gone. Requests that were not begun are refused from here on.
  public func close() {
    guard isRunning else { return }
    try? loop.sync { [self] in for listener in listeners { listener.stopAccepting() } }
    removeSocket()
  }

  private func removeSocket() {
    if let identity, ControlSocket.identity(of: configuration.socketPath) == identity {
      unlink(configuration.socketPath)
    }
    identity = nil
  }

  /// Lets requests that run be answered, ends event streams; the thread has ended when this returns.
  /// - Parameter grace: how long requests may take.
  public func stop(grace: Duration = .seconds(2)) {
    guard isRunning else { return }
    close()
    let deadline = ContinuousClock.now + grace
    try? loop.sync { [self] in for listener in listeners { listener.drain() } }
    while (try? loop.sync { [self] in listeners.allSatisfy(\.isEmpty) }) == false, ContinuousClock.now < deadline {
      usleep(2000)
    }
    try? loop.sync { [self] in for listener in listeners { listener.closeAll() } }
    loop.stop()
    isRunning = false
  }
}

extension ControlError {
  fileprivate init(_ refusal: HTTPRequestHead.Refusal) {
    switch refusal.status {
    case 413: self.init(.tooLarge, refusal.detail)
    case 503: self.init(.unavailable, refusal.detail)
    default: self.init(.malformed, refusal.detail)
    }
  }
}

/// The TCP socket of /metrics.
enum MetricsSocket {
  private static let backlog: Int32 = 64

  static func listen(_ address: String, _ port: UInt16) throws(ControlSocket.Failure) -> Int32 {
    func failure(_ reason: String) -> ControlSocket.Failure {
      ControlSocket.Failure(description: "metrics: cannot listen at \(address) port \(port): \(reason)")
    }
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(address, "\(port)", &hints, &found)
    guard code == 0, let entry = found else { throw failure(String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(found) }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(entry.pointee.ai_family, type, 0)
    guard descriptor >= 0 else { throw failure(String(cString: strerror(errno))) }
    var one: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    guard bind(descriptor, entry.pointee.ai_addr, entry.pointee.ai_addrlen) == 0,
      Glibc.listen(descriptor, backlog) == 0
    else {
      let reason = failure(String(cString: strerror(errno)))
      Glibc.close(descriptor)
      throw reason
    }
    return descriptor
  }
}
