import ControlAPI
import Logging

/// Answers requests by method and path. Whatever goes wrong leaves as `{error, detail}` with a fitting status.
struct APIRouteTable: Sendable {
  typealias Handler = @Sendable (HTTPRequest) async throws -> HTTPResponse
  typealias Route = (method: String, path: String, handler: Handler)

  private let handlers: [String: [String: Handler]]
  private let logger: Logger

  init(_ routes: [Route], logger: Logger) {
    handlers = Dictionary(grouping: routes, by: \.path).mapValues { routes in
      Dictionary(uniqueKeysWithValues: routes.map { ($0.method, $0.handler) })
    }
    self.logger = logger
  }

  func answer(_ request: HTTPRequest) async -> HTTPResponse {
    guard let methods = handlers[request.path] else { return Self.response(ControlError(.notFound, "no such path")) }
    guard let handler = methods[request.method] else {
      let allowed = methods.keys.sorted().joined(separator: ", ")
      var response = Self.response(ControlError(.methodNotAllowed, "this path takes \(allowed)"))
      response.fields.append(("allow", allowed))
      return response
    }
    do {
      return try await handler(request)
    } catch let error as ControlError {
      return Self.response(error)
    } catch {
      logger.error("control API: \(request.method) \(request.path): \(error)")
      return Self.response(ControlError(.internal, "the gateway failed to answer; see its log"))
    }
  }

  static func response(_ error: ControlError, status: Int? = nil) -> HTTPResponse {
    let body: [UInt8] = (try? APICoding.encode(error)).map { Array($0) + [0x0a] } ?? []
    return HTTPResponse(
      status: status ?? error.statusCode, fields: [("content-type", "application/json")], body: .whole(body))
  }
}
