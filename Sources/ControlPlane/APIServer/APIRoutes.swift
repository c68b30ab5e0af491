import ControlAPI
import Foundation
import IPsec
import Logging

/// The paths of the API and what answers each.
struct APIRoutes: Sendable {
  let gateway: any GatewayControl
  let logger: Logger

  var all: APIRouteTable { APIRouteTable(routes, logger: logger) }

  /// What anybody on the network may see.
  var metricsOnly: APIRouteTable { APIRouteTable([("GET", "/metrics", metrics)], logger: logger) }

  private var routes: [APIRouteTable.Route] {
    [
      ("GET", "/v1/status", { _ in try json(await gateway.status()) }),
      ("GET", "/v1/sa", sas),
      ("GET", "/v1/flow", { _ in list(try await gateway.policies()) }),
      ("GET", "/v1/tunnels", { request in list(try await gateway.tunnels(try TunnelQuery(request.values))) }),
      ("GET", "/v1/ports", { _ in try json(await gateway.ports()) }),
      ("GET", "/v1/workers", { _ in try json(await gateway.workers()) }),
      ("GET", "/v1/drops", { _ in try json(await gateway.drops()) }),
      ("GET", "/v1/routes", { _ in try json(await gateway.routes()) }),
      ("GET", "/v1/neighbors", { _ in try json(await gateway.neighbors()) }),
      ("GET", "/v1/engines", { _ in try json(await gateway.engines()) }),
      ("GET", "/v1/log", log),
      ("GET", "/v1/ike/names", { _ in list(try await gateway.daemonNames()) }),
      ("GET", "/v1/ike", { _ in try json(await gateway.keyDaemon()) }),
      ("POST", "/v1/ike", keyDaemon),
      ("GET", "/v1/events", events),
      ("GET", "/metrics", metrics),
      ("POST", "/v1/load", { try json(await gateway.load(try rules(of: $0))) }),
      ("POST", "/v1/check", { try json(await gateway.check(try rules(of: $0))) }),
      (
        "POST", "/v1/flush",
        { request in
          let flush: FlushRequest = try body(of: request)
          return try json(await gateway.flush(flush.what))
        }
      ),
      ("POST", "/v1/reload", { _ in try json(await gateway.reload()) }),
    ]
  }

  private func sas(_ request: HTTPRequest) async throws -> HTTPResponse {
    let reveal = try wantsKeys(request)
    return list(try await gateway.securityAssociations(), revealKeys: reveal)
  }

  private func log(_ request: HTTPRequest) async throws -> HTTPResponse {
    let since = request.values("since").first ?? "0"
    guard let moment = Double(since), moment.isFinite else {
      throw ControlError(.malformed, "since is in seconds since the epoch")
    }
    return list(try await gateway.log(since: moment))
  }

  private func keyDaemon(_ request: HTTPRequest) async throws -> HTTPResponse {
    let wish: KeyDaemonRequest = try body(of: request)
    if wish.path != nil { try requireRoot(request, to: "name the file of a capture") }
    return try json(await gateway.keyDaemon(wish))
  }

  private func metrics(_ request: HTTPRequest) async throws -> HTTPResponse {
    let status = try await gateway.status()
    var query = TunnelQuery()
    query.order = .made
    query.limit = status.limits.tunnelsInMetrics
    let page = MetricsPage(
      status: status, ports: try await gateway.ports(), workers: try await gateway.workers(),
      drops: try await gateway.drops(), tunnels: query.limit == 0 ? [] : try await gateway.tunnels(query))
    return HTTPResponse(
      status: 200, fields: [("content-type", MetricsPage.contentType)], body: .whole(Array(page.text.utf8)))
  }

  /// One JSON object a line. An empty line comes at once: from there on nothing is missed.
  private func events(_ request: HTTPRequest) async throws -> HTTPResponse {
    let reveal = try wantsKeys(request)
    let stream = try await gateway.events()
    return HTTPResponse(
      status: 200, fields: [("content-type", "application/x-ndjson")],
      body: .parts(isEndless: true) { writer in
        try await writer.write([0x0a])
        for await event in stream {
          try await writer.write(Array(try APICoding.encode(event, revealKeys: reveal)) + [0x0a])
        }
      })
  }

  /// Key material is for root alone, whatever the socket's mode lets in.
  private func requireRoot(_ request: HTTPRequest, to purpose: String) throws(ControlError) {
    guard request.peer.isRoot else { throw ControlError(.forbidden, "only root may \(purpose)") }
  }

  private func wantsKeys(_ request: HTTPRequest) throws(ControlError) -> Bool {
    switch request.values("keys") {
    case [], ["0"]: return false
    case ["1"]:
      try requireRoot(request, to: "see keys")
      return true
    default: throw ControlError(.malformed, "keys is 0 or 1")
    }
  }

  private func rules(of request: HTTPRequest) throws -> RuleTransaction {
    let transaction: RuleTransaction = try body(of: request)
    return try transaction.admitted()
  }

  private func body<Value: Decodable>(of request: HTTPRequest) throws -> Value {
    try request.body.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress, !bytes.isEmpty else { throw ControlError(.malformed, "not JSON") }
      // Not copied: a body may have tens of megabytes. The decoder keeps none of it.
      let data = Data(bytesNoCopy: UnsafeMutableRawPointer(mutating: base), count: bytes.count, deallocator: .none)
      return try APICoding.decode(Value.self, from: data)
    }
  }

  /// Elements encoded at a time.
  private static let listPart = 256

  /// A list that may be long: written a part at a time, as fast as it is taken, so that its text is never all in memory.
  private func list(_ values: [some Encodable & Sendable], revealKeys: Bool = false) -> HTTPResponse {
    HTTPResponse(
      status: 200, fields: Self.jsonFields,
      body: .parts(isEndless: false) { writer in
        for start in stride(from: 0, to: values.count, by: Self.listPart) {
          let part = values[start..<min(start + Self.listPart, values.count)]
          let text = try APICoding.encodeElements(part, revealKeys: revealKeys)
          try await writer.write(Array((start == 0 ? "[" : ",\n").utf8) + text)
        }
        try await writer.write(Array((values.isEmpty ? "[]\n" : "]\n").utf8))
      })
  }

  private static let jsonFields = [("content-type", "application/json"), ("cache-control", "no-store")]

  private func json(_ value: some Encodable, revealKeys: Bool = false) throws -> HTTPResponse {
    let text = try APICoding.encode(value, revealKeys: revealKeys)
    return HTTPResponse(status: 200, fields: Self.jsonFields, body: .whole(Array(text) + [0x0a]))
  }
}
