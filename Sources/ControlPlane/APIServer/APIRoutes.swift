import ControlAPI
import Foundation
import Hummingbird
import IPsec
import NIOCore

/// The paths of the API and what answers each.
struct APIRoutes: Sendable {
  typealias Handler = @Sendable (Request, APIRequestContext) async throws -> Response
  let gateway: any GatewayControl
  let bodyLimit: Int
  let gate: RequestGate

  func router() -> Router<APIRequestContext> { router(table) }

  /// What anybody on the network may see.
  func metricsRouter() -> Router<APIRequestContext> { router([(.get, "/metrics", metrics)]) }

  private func router(
    _ routes: [(method: HTTPRequest.Method, path: String, handler: Handler)]
  ) -> Router<APIRequestContext> {
    let router = Router(context: APIRequestContext.self)
    let methods = Dictionary(grouping: routes, by: \.path).mapValues { $0.map(\.method.rawValue) }
    router.middlewares.add(RequestGateMiddleware(gate: gate))
    router.middlewares.add(APIErrorMiddleware(methods: methods))
    for route in routes {
      router.on(RouterPath(route.path), method: route.method, use: route.handler)
    }
    return router
  }

  private var table: [(method: HTTPRequest.Method, path: String, handler: Handler)] {
    [
      (.get, "/v1/status", { _, _ in try json(await gateway.status()) }),
      (.get, "/v1/sa", sas),
      (.get, "/v1/flow", { _, _ in list(try await gateway.policies()) }),
      (.get, "/v1/ports", { _, _ in try json(await gateway.ports()) }),
      (.get, "/v1/workers", { _, _ in try json(await gateway.workers()) }),
      (.get, "/v1/drops", { _, _ in try json(await gateway.drops()) }),
      (.get, "/v1/routes", { _, _ in try json(await gateway.routes()) }),
      (.get, "/v1/neighbors", { _, _ in try json(await gateway.neighbors()) }),
      (.get, "/v1/engines", { _, _ in try json(await gateway.engines()) }),
      (.get, "/v1/ike", { _, _ in try json(await gateway.keyDaemon()) }),
      (.post, "/v1/ike", keyDaemon),
      (.get, "/v1/events", events),
      (.get, "/metrics", metrics),
      (.post, "/v1/load", { request, _ in try json(await gateway.load(try await rules(of: request))) }),
      (.post, "/v1/check", { request, _ in try json(await gateway.check(try await rules(of: request))) }),
      (
        .post, "/v1/flush",
        { request, _ in
          let flush: FlushRequest = try await body(of: request)
          return try json(await gateway.flush(flush.what))
        }
      ),
      (.post, "/v1/reload", { _, _ in try json(await gateway.reload()) }),
    ]
  }

  private func sas(_ request: Request, _ context: APIRequestContext) async throws -> Response {
    let reveal = try wantsKeys(request)
    if reveal { try await context.requireRoot(to: "see keys") }
    return list(try await gateway.securityAssociations(), revealKeys: reveal)
  }

  private func keyDaemon(_ request: Request, _ context: APIRequestContext) async throws -> Response {
    let wish: KeyDaemonRequest = try await body(of: request)
    if wish.path != nil { try await context.requireRoot(to: "name the file of a capture") }
    return try json(await gateway.keyDaemon(wish))
  }

  private func metrics(_ request: Request, _ context: APIRequestContext) async throws -> Response {
    let page = MetricsPage(
      status: try await gateway.status(), ports: try await gateway.ports(), workers: try await gateway.workers(),
      drops: try await gateway.drops())
    return Response(
      status: .ok, headers: [.contentType: MetricsPage.contentType],
      body: ResponseBody(byteBuffer: ByteBuffer(string: page.text)))
  }

  /// One JSON object a line. An empty line comes at once: from there on nothing is missed.
  private func events(_ request: Request, _ context: APIRequestContext) async throws -> Response {
    let reveal = try wantsKeys(request)
    if reveal { try await context.requireRoot(to: "see keys") }
    let stream = try await gateway.events()
    let body = ResponseBody { writer in
      try await writer.write(ByteBuffer(string: "\n"))
      try await request.body.consumeWithCancellationOnInboundClose { _ in
        for await event in stream {
          try await writer.write(ByteBuffer(bytes: try APICoding.encode(event, revealKeys: reveal) + [0x0a]))
        }
      }
      try await writer.finish(nil)
    }
    return Response(status: .ok, headers: [.contentType: "application/x-ndjson"], body: body)
  }

  private func wantsKeys(_ request: Request) throws(ControlError) -> Bool {
    switch request.uri.queryParameters["keys"] {
    case nil, "0": return false
    case "1": return true
    default: throw ControlError(.malformed, "keys is 0 or 1")
    }
  }

  private func rules(of request: Request) async throws -> RuleTransaction {
    let transaction: RuleTransaction = try await body(of: request)
    return try transaction.admitted()
  }

  private func body<Value: Decodable>(of request: Request) async throws -> Value {
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > bodyLimit {
      throw NIOTooManyBytesError(maxBytes: bodyLimit)
    }
    let buffer = try await request.body.collect(upTo: bodyLimit)
    return try APICoding.decode(Value.self, from: Data(buffer.readableBytesView))
  }

  /// Elements encoded at a time.
  private static let listPart = 256

  /// A list that may be long: written a part at a time, as fast as it is taken, so that its text is never all in memory.
  private func list(_ values: [some Encodable & Sendable], revealKeys: Bool = false) -> Response {
    let body = ResponseBody { writer in
      for start in stride(from: 0, to: values.count, by: Self.listPart) {
        let part = values[start..<min(start + Self.listPart, values.count)]
        var buffer = ByteBuffer(string: start == 0 ? "[" : ",\n")
        buffer.writeBytes(try APICoding.encodeElements(part, revealKeys: revealKeys))
        try await writer.write(buffer)
      }
      try await writer.write(ByteBuffer(string: values.isEmpty ? "[]\n" : "]\n"))
      try await writer.finish(nil)
    }
    return Response(status: .ok, headers: Self.jsonHeaders, body: body)
  }

  private static let jsonHeaders: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]

  private func json(_ value: some Encodable, revealKeys: Bool = false) throws -> Response {
    let data = try APICoding.encode(value, revealKeys: revealKeys)
    return Response(
      status: .ok, headers: Self.jsonHeaders, body: ResponseBody(byteBuffer: ByteBuffer(bytes: data + [0x0a])))
  }
}
