import Foundation
import IKEControl
import IPsec

/// The API as a caller sees it. Every call blocks its thread until the answer is there: for tools, not for tasks.
public struct ControlClient: Sendable {
  public let socketPath: String
  /// For each call but `events`; nil: none.
  public var timeoutSeconds: Double?

  public init(socketPath: String, timeoutSeconds: Double? = 30) {
    self.socketPath = socketPath
    self.timeoutSeconds = timeoutSeconds
  }

  public func status() throws(ControlClientError) -> GatewayStatus { try get("/v1/status") }
  /// Without `keys` the records hold zeros of the keys' lengths. With: root only.
  public func securityAssociations(keys: Bool = false) throws(ControlClientError) -> [SARecord] {
    try list("/v1/sa" + (keys ? "?keys=1" : ""))
  }
  public func policies() throws(ControlClientError) -> [PolicyRecord] { try list("/v1/flow") }
  public func tunnels(_ query: TunnelQuery = TunnelQuery()) throws(ControlClientError) -> [TunnelStatus] {
    try list(query.path)
  }
  public func ports() throws(ControlClientError) -> [PortStatus] { try get("/v1/ports") }
  public func workers() throws(ControlClientError) -> [WorkerStatus] { try get("/v1/workers") }
  public func drops() throws(ControlClientError) -> [DropCount] { try get("/v1/drops") }
  public func routes() throws(ControlClientError) -> [RouteStatus] { try get("/v1/routes") }
  public func neighbors() throws(ControlClientError) -> [NeighborStatus] { try get("/v1/neighbors") }
  public func engines() throws(ControlClientError) -> [EngineStatus] { try get("/v1/engines") }
  public func log(since: Double) throws(ControlClientError) -> [LogLine] { try list("/v1/log?since=\(since)") }
  public func daemonNames() throws(ControlClientError) -> [DaemonName] { try list("/v1/ike/names") }
  public func keyDaemon() throws(ControlClientError) -> KeyDaemonStatus { try get("/v1/ike") }
  public func keyDaemon(_ request: KeyDaemonRequest) throws(ControlClientError) -> KeyDaemonStatus {
    try post("/v1/ike", request)
  }
  public func metrics() throws(ControlClientError) -> String { String(decoding: try raw("/metrics"), as: UTF8.self) }

  public func load(_ transaction: RuleTransaction) throws(ControlClientError) -> LoadReport {
    try post("/v1/load", transaction)
  }
  public func check(_ transaction: RuleTransaction) throws(ControlClientError) -> LoadReport {
    try post("/v1/check", transaction)
  }
  public func flush(_ target: FlushRequest.Target) throws(ControlClientError) -> FlushReport {
    try post("/v1/flush", FlushRequest(what: target))
  }
  public func reload() throws(ControlClientError) -> ReloadReport { try decode(try raw("/v1/reload", body: Data())) }

  /// Calls `handler` for each event, on this thread, until it returns false, the gateway stops, or `isCancelled`
  /// (asked about once a second) says so.
  /// - Parameter onStart: called once nothing is missed any more.
  public func events(
    keys: Bool = false, isCancelled: (() -> Bool)? = nil, onStart: () -> Void = {},
    handler: (GatewayEvent) -> Bool
  ) throws(ControlClientError) {
    var lines = LineSplitter()
    var failure: ControlClientError?
    var started = false
    try withoutActuallyEscaping(handler) { handler throws(ControlClientError) in
      try withoutActuallyEscaping(onStart) { onStart throws(ControlClientError) in
        _ = try CurlTransfer(socketPath: socketPath, timeoutSeconds: nil).run(
          path: "/v1/events" + (keys ? "?keys=1" : ""), body: nil,
          onBytes: { bytes in
            if !started { onStart() }
            started = true
            guard lines.append(bytes) else {
              failure = .transport("an event longer than \(LineSplitter.limit) bytes")
              return false
            }
            while let line = lines.next() {
              if line.isEmpty { continue }
              do throws(ControlError) {
                let event = try APICoding.decode(GatewayEvent.self, from: line, acceptHiddenKeys: true)
                guard handler(event) else { return false }
              } catch {
                failure = .transport("an event that is not understood: \(error.detail)")
                return false
              }
            }
            return true
          }, isCancelled: isCancelled)
      }
    }
    if let failure { throw failure }
  }

  /// The JSON as the server sent it.
  public func raw(_ path: String, body: Data? = nil) throws(ControlClientError) -> Data {
    try CurlTransfer(socketPath: socketPath, timeoutSeconds: timeoutSeconds).run(path: path, body: body)
  }

  /// A list that may be long: read as it comes. The time limit is for what comes next, not for all of it.
  private func list<Element: Decodable>(_ path: String) throws(ControlClientError) -> [Element] {
    var splitter = ListSplitter()
    var elements: [Element] = []
    var failure: ControlClientError?
    var heard = ContinuousClock.now
    let limit = timeoutSeconds
    _ = try CurlTransfer(socketPath: socketPath, timeoutSeconds: nil).run(
      path: path, body: nil,
      onBytes: { bytes in
        splitter.append(bytes)
        do throws(ControlClientError) {
          while let part = splitter.next() { elements += try decode(part) as [Element] }
        } catch {
          failure = error
        }
        heard = .now
        return failure == nil
      },
      isCancelled: {
        guard let limit, ContinuousClock.now - heard > .seconds(limit) else { return false }
        failure = .timedOut(seconds: limit)
        return true
      })
    if let failure { throw failure }
    return elements + (try decode(splitter.rest()) as [Element])
  }

  /// The value that the gateway answers with to a GET of `path`.
  public func get<Value: Decodable>(_ path: String) throws(ControlClientError) -> Value {
    try decode(try raw(path))
  }

  private func post<Value: Decodable>(_ path: String, _ body: some Encodable) throws(ControlClientError) -> Value {
    let data: Data
    do { data = try APICoding.encode(body, revealKeys: true) } catch {
      throw .transport("the request cannot be written as JSON: \(error)")
    }
    return try decode(try raw(path, body: data))
  }

  private func decode<Value: Decodable>(_ data: Data) throws(ControlClientError) -> Value {
    do { return try APICoding.decode(Value.self, from: data, acceptHiddenKeys: true) } catch {
      throw .transport("an answer that is not understood: \(error.detail)")
    }
  }
}
