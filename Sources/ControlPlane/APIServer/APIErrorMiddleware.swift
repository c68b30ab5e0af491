import ControlAPI
import Foundation
import Hummingbird
import NIOCore

/// Whatever goes wrong leaves as `{error, detail}` with a fitting status.
struct APIErrorMiddleware: RouterMiddleware {
  typealias Context = APIRequestContext
  /// The methods of each path there is.
  let methods: [String: [String]]

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    do {
      return try await next(request, context)
    } catch {
      return Self.response(refusal(for: error, request, context), allow: methods[request.uri.path])
    }
  }

  private func refusal(for error: any Error, _ request: Request, _ context: Context) -> ControlError {
    switch error {
    case let error as ControlError: return error
    case is NIOTooManyBytesError: return ControlError(.tooLarge, "the body is larger than the server takes")
    case let error as HTTPError where error.status == .notFound:
      guard let allowed = methods[request.uri.path] else { return ControlError(.notFound, "no such path") }
      return ControlError(.methodNotAllowed, "this path takes \(allowed.joined(separator: ", "))")
    case let error as HTTPError where (400..<500).contains(error.status.code):
      return ControlError(.malformed, error.body ?? error.status.reasonPhrase)
    default:
      context.logger.error("\(request.method) \(request.uri.path): \(error)")
      return ControlError(.internal, "the gateway failed to answer; see its log")
    }
  }

  static func response(_ error: ControlError, allow: [String]? = nil) -> Response {
    let body = (try? APICoding.encode(error)) ?? Data()
    var response = Response(
      status: HTTPResponse.Status(code: error.statusCode), headers: [.contentType: "application/json"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: body + [0x0a])))
    if error.kind == .methodNotAllowed, let allow { response.headers[.allow] = allow.joined(separator: ", ") }
    return response
  }
}
