import ControlAPI
import Hummingbird

/// Holds a pass for each request until its answer is written. Streams hold none while they last: they end with the server.
struct RequestGateMiddleware: RouterMiddleware {
  typealias Context = APIRequestContext
  let gate: RequestGate

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    guard let pass = gate.enter() else {
      return APIErrorMiddleware.response(ControlError(.unavailable, "the gateway is stopping"))
    }
    var response = try await next(request, context)
    guard let length = response.body.contentLength else { return response }
    let body = response.body
    response.body = ResponseBody(contentLength: length) { writer in
      try await body.write(writer)
      withExtendedLifetime(pass) {}
    }
    return response
  }
}
