/// Takes a request's body out of what comes (RFC 9112 6 and 7.1).
struct HTTPBodyDecoder {
  private enum State: Equatable {
    /// Of the body, or of a chunk.
    case data(left: Int, isChunk: Bool)
    /// A chunk's length, with extensions that mean nothing here.
    case size
    case chunkEnd
    case trailer
    case done
  }

  private static let longestSize = 256
  private static let longestTrailer = 4096

  private var state: State
  private var line: [UInt8] = []
  private var trailerLength = 0

  init(_ framing: HTTPRequestHead.Framing) {
    state =
      switch framing {
      case .none: .done
      case .length(let length): .data(left: length, isChunk: false)
      case .chunked: .size
      }
  }

  var isDone: Bool { state == .done }

  /// Appends to `body` what of `bytes` is the body's; not beyond `limit`.
  /// - Returns: how many were taken. The rest belongs to what comes after the request.
  mutating func take(
    _ bytes: ArraySlice<UInt8>, into body: inout [UInt8], limit: Int
  ) throws(HTTPRequestHead.Refusal) -> Int {
    var rest = bytes
    while !rest.isEmpty, state != .done {
      if case .data(let left, let isChunk) = state {
        let part = rest.prefix(left)
        guard body.count + part.count <= limit else { throw Self.tooLarge }
        body += part
        rest = rest.dropFirst(part.count)
        guard part.count == left else {
          state = .data(left: left - part.count, isChunk: isChunk)
          break
        }
        state = isChunk ? .chunkEnd : .done
      } else if let end = rest.firstIndex(of: 0x0a) {
        line += rest[...end]
        rest = rest[(end + 1)...]
        try takeLine(bodyLength: body.count, limit)
      } else {
        line += rest
        rest = rest[rest.endIndex...]
      }
      guard line.count <= (state == .trailer ? Self.longestTrailer : Self.longestSize) else { throw Self.malformed }
    }
    return bytes.count - rest.count
  }

  static let tooLarge = HTTPRequestHead.Refusal(413, "the body is larger than the server takes")
  private static let malformed = HTTPRequestHead.Refusal(400, "a chunk of the body is malformed")

  private mutating func takeLine(bodyLength: Int, _ limit: Int) throws(HTTPRequestHead.Refusal) {
    guard line.count >= 2, line[line.count - 2] == 0x0d else { throw Self.malformed }
    let text = line.dropLast(2)
    defer { line.removeAll(keepingCapacity: true) }
    switch state {
    case .size:
      let digits = text.prefix { $0 != UInt8(ascii: ";") && $0 != 0x20 && $0 != 0x09 }
      guard 1...15 ~= digits.count, digits.allSatisfy(Self.isHexadecimal),
        let size = Int(String(decoding: digits, as: UTF8.self), radix: 16)
      else { throw Self.malformed }
      guard bodyLength + size <= limit else { throw Self.tooLarge }
      state = size == 0 ? .trailer : .data(left: size, isChunk: true)
    case .chunkEnd:
      guard text.isEmpty else { throw Self.malformed }
      state = .size
    case .trailer:
      trailerLength += line.count
      guard trailerLength <= Self.longestTrailer else { throw Self.malformed }
      if text.isEmpty { state = .done } else { _ = try HTTPLines.field(text) }
    case .data, .done: break
    }
  }

  private static func isHexadecimal(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x46, 0x61...0x66: true
    default: false
    }
  }
}
