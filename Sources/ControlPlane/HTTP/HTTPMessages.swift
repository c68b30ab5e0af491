import Glibc

/// Who is at the other end of a connection.
enum HTTPPeer: Sendable, Hashable {
  /// Of a Unix socket, as the kernel took it down at connect() (SO_PEERCRED).
  case user(uid_t)
  case address(String)

  var isRoot: Bool { self == .user(0) }
}

/// A whole request, as those who answer see it.
struct HTTPRequest: Sendable {
  var method: String
  var path: String
  /// Behind the question mark.
  var query: String?
  var body: [UInt8] = []
  var peer: HTTPPeer

  init(_ head: HTTPRequestHead, peer: HTTPPeer) {
    method = head.method
    self.peer = peer
    let parts = head.target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    path = String(parts[0])
    query = parts.count > 1 ? String(parts[1]) : nil
  }

  /// The values that a name has in the query; they are taken as they stand.
  func values(_ name: String) -> [String] {
    (query ?? "").split(separator: "&").compactMap { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return parts[0] == name ? String(parts.count > 1 ? parts[1] : "") : nil
    }
  }
}

struct HTTPResponse: Sendable {
  enum Body: Sendable {
    case whole([UInt8])
    /// Written part by part, as fast as it is taken. `isEndless`: until the reader goes or the server stops.
    case parts(isEndless: Bool, @Sendable (HTTPBodyWriter) async throws -> Void)
  }

  var status: Int
  var fields: [(name: String, value: String)]
  var body: Body

  /// The bytes that go before the body, and with it where it is whole.
  func head(keepsAlive: Bool, isChunked: Bool) -> [UInt8] {
    var text = "HTTP/1.1 \(status) \(Self.reasons[status] ?? "Unknown")\r\n"
    for (name, value) in fields { text += "\(name): \(value)\r\n" }
    switch body {
    case .whole(let bytes): text += "content-length: \(bytes.count)\r\n"
    case .parts: if isChunked { text += "transfer-encoding: chunked\r\n" }
    }
    if !keepsAlive { text += "connection: close\r\n" }
    return Array((text + "\r\n").utf8)
  }

  private static let reasons = [
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 417: "Expectation Failed",
    422: "Unprocessable Content", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported", 507: "Insufficient Storage",
  ]
}

/// Writes the parts of a body. Any task.
struct HTTPBodyWriter: Sendable {
  /// The reader went, or the server stopped.
  struct Gone: Error {}

  let connection: HTTPConnection
  let isChunked: Bool

  /// Returns when the bytes have been given to the kernel.
  func write(_ bytes: [UInt8]) async throws {
    guard !bytes.isEmpty else { return }
    try await connection.write(
      isChunked ? Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + [0x0d, 0x0a] : bytes)
  }
}
