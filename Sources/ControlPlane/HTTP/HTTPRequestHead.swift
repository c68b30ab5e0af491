/// What stands before a request's body (RFC 9112), read strictly: what two readers might understand differently is
/// refused.
struct HTTPRequestHead: Sendable, Equatable {
  enum Framing: Sendable, Equatable {
    case none
    case length(Int)
    case chunked
  }

  /// Why a request is not answered otherwise, as a status with words.
  struct Refusal: Error, Equatable {
    var status: Int
    var detail: String
    init(_ status: Int, _ detail: String) {
      self.status = status
      self.detail = detail
    }
  }

  /// Bytes of the whole and of one field, and fields.
  static let longest = 32 << 10
  static let longestField = 16 << 10
  static let mostFields = 100

  var method: String
  var target: String
  /// What stands behind HTTP/1.
  var version = 1
  var framing = Framing.none
  /// The connection may carry another request.
  var keepsAlive: Bool
  var expectsContinue = false

  /// - Parameter bytes: its lines, each with its CRLF, without the empty one that ends them.
  init(_ bytes: ArraySlice<UInt8>) throws(Refusal) {
    var lines = HTTPLines(bytes)
    guard let first = try lines.next() else { throw Refusal(400, "no request line") }
    let words = first.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    guard words.count == 3, words[0].allSatisfy(HTTPLines.isToken), !words[0].isEmpty, !words[1].isEmpty,
      words[1].allSatisfy({ 0x21...0x7e ~= $0 })
    else { throw Refusal(400, "a request line is a method, a target and a version") }
    method = String(decoding: words[0], as: UTF8.self)
    target = String(decoding: words[1], as: UTF8.self)
    switch String(decoding: words[2], as: UTF8.self) {
    case "HTTP/1.1": version = 1
    case "HTTP/1.0": version = 0
    default: throw Refusal(505, "the server speaks HTTP/1.1")
    }
    var fields = Fields()
    keepsAlive = version == 1
    while let line = try lines.next() { try fields.take(line) }
    try apply(fields)
  }

  /// The fields that say how to read the request; the others are nobody's here.
  private struct Fields {
    var count = 0
    var hosts = 0
    var length: Int?
    var coding: String?
    var connection: [String] = []
    var expectation: String?

    mutating func take(_ line: ArraySlice<UInt8>) throws(Refusal) {
      count += 1
      guard count <= mostFields, line.count <= longestField else { throw Refusal(431, "too many or too long fields") }
      let (name, value) = try HTTPLines.field(line)
      switch name {
      case "host": hosts += 1
      case "content-length":
        guard !value.isEmpty, value.count <= 15, value.utf8.allSatisfy({ 0x30...0x39 ~= $0 }), let number = Int(value),
          length == nil || length == number
        else { throw Refusal(400, "content-length is not one number") }
        length = number
      case "transfer-encoding":
        guard coding == nil else { throw Refusal(400, "transfer-encoding is given twice") }
        coding = value.lowercased()
      case "connection":
        connection += value.lowercased().split(separator: ",").map { $0.filter { $0 != " " && $0 != "\t" } }
      case "expect": expectation = value.lowercased()
      default: break
      }
    }
  }

  private mutating func apply(_ fields: Fields) throws(Refusal) {
    let isOld = version == 0
    guard isOld ? fields.hosts <= 1 : fields.hosts == 1 else { throw Refusal(400, "a request names one host") }
    if let coding = fields.coding {
      guard fields.length == nil, !isOld else { throw Refusal(400, "the body's length is stated in two ways") }
      guard coding == "chunked" else { throw Refusal(501, "of transfer codings the server knows chunked") }
      framing = .chunked
    } else if let length = fields.length, length > 0 {
      framing = .length(length)
    }
    if fields.connection.contains("close") { keepsAlive = false }
    switch fields.expectation {
    case nil: break
    case "100-continue": expectsContinue = !isOld && framing != .none
    default: throw Refusal(417, "of expectations the server knows 100-continue")
    }
  }
}

/// Lines that end in CRLF, and the fields in them (RFC 9110 5).
struct HTTPLines {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  mutating func next() throws(HTTPRequestHead.Refusal) -> ArraySlice<UInt8>? {
    guard !rest.isEmpty else { return nil }
    guard let end = rest.firstIndex(of: 0x0a), end > rest.startIndex, rest[end - 1] == 0x0d else {
      throw HTTPRequestHead.Refusal(400, "a line does not end in CRLF")
    }
    defer { rest = rest[(end + 1)...] }
    return rest[rest.startIndex..<end - 1]
  }

  /// The name in small letters.
  static func field(_ line: ArraySlice<UInt8>) throws(HTTPRequestHead.Refusal) -> (name: String, value: String) {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
      line[..<colon].allSatisfy(isToken), line[colon...].allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 })
    else { throw HTTPRequestHead.Refusal(400, "a header field is a name, a colon and text") }
    var value = line[(colon + 1)...]
    while let first = value.first, first == 0x20 || first == 0x09 { value.removeFirst() }
    while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
    return (String(decoding: line[..<colon], as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
  }

  static func isToken(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
    default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
    }
  }
}
