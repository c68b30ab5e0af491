import SeededRandom
import Testing

@testable import ControlPlane

@Suite struct HTTPRequestHeadTests {
  private static func read(_ text: String) throws -> HTTPRequestHead { try HTTPRequestHead(Array(text.utf8)[...]) }

  @Test func whatARequestSays() throws {
    let plain = try Self.read("GET /v1/sa?keys=1 HTTP/1.1\r\nHost: gw\r\n")
    #expect(plain.method == "GET" && plain.target == "/v1/sa?keys=1" && plain.keepsAlive && plain.framing == .none)
    let request = HTTPRequest(plain, peer: .user(0))
    #expect(request.path == "/v1/sa" && request.values("keys") == ["1"] && request.values("key").isEmpty)
    let sized = try Self.read("POST / HTTP/1.1\r\nhost:gw\r\nCONTENT-LENGTH: \t 12 \r\nExpect: 100-Continue\r\n")
    #expect(sized.framing == .length(12) && sized.expectsContinue)
    let chunked = try Self.read(
      "POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: Chunked\r\nConnection: x, Close\r\n")
    #expect(chunked.framing == .chunked && !chunked.keepsAlive)
    let old = try Self.read("GET / HTTP/1.0\r\n")
    #expect(old.version == 0 && !old.keepsAlive)
    #expect(try Self.read("GET / HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n").framing == .none)
  }

  @Test(arguments: [
    (400, "GET /\r\n"), (400, "GET  / HTTP/1.1\r\n"), (400, " GET / HTTP/1.1\r\n"), (400, "G(T / HTTP/1.1\r\n"),
    (400, "GET /\u{7f} HTTP/1.1\r\n"), (505, "GET / HTTP/2.0\r\n"), (505, "GET / http/1.1\r\n"),
    (400, "GET / HTTP/1.1\r\n"), (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n"),
    (400, "GET / HTTP/1.1\nHost: a\n"), (400, "GET / HTTP/1.1\r\nHost : a\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n"), (400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \u{0}\r\n"), (400, "GET / HTTP/1.1\r\nHost: a\rb\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    (400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"),
    (501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    (417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "x", count: 17_000) + "\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: y\r\n", count: 101)),
  ])
  func whatIsRefused(_ status: Int, _ text: String) {
    #expect(performing: { try Self.read(text) }, throws: { ($0 as? HTTPRequestHead.Refusal)?.status == status })
  }

  /// However a body comes to pieces, it is the same body, and what follows it is left.
  @Test(arguments: [
    (HTTPRequestHead.Framing.length(5), "hello"), (.chunked, "5\r\nhello\r\n0\r\n\r\n"),
    (.chunked, "2;name=value\r\nhe\r\n003\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"), (.none, ""),
  ])
  func bodiesInPieces(_ framing: HTTPRequestHead.Framing, _ text: String) throws {
    let bytes = Array((text + "GET /next").utf8)
    for first in 0...bytes.count {
      for second in first...bytes.count {
        var decoder = HTTPBodyDecoder(framing)
        var body: [UInt8] = []
        var taken = 0
        for end in [first, second, bytes.count] {
          taken += try decoder.take(bytes[taken..<end], into: &body, limit: 5)
        }
        #expect(decoder.isDone && taken == text.utf8.count)
        #expect(String(decoding: body, as: UTF8.self) == (text.isEmpty ? "" : "hello"))
      }
    }
  }

  @Test(arguments: [
    (400, "x\r\n"), (400, "\r\n"), (400, "5\nhello"), (400, "5\r\nhello!!\r\n"), (400, "-1\r\n"),
    (400, "fffffffffffffffff\r\n"), (413, "6\r\n"), (413, "3\r\nabc\r\n3\r\n"), (400, "0\r\nno field\r\n"),
    (400, "0\r\nX: " + String(repeating: "x", count: 5000)), (400, "1" + String(repeating: " ", count: 300)),
    (400, "0\r\n" + String(repeating: "X: y\r\n", count: 1000)),
  ])
  func chunksThatAreRefused(_ status: Int, _ text: String) {
    var decoder = HTTPBodyDecoder(.chunked)
    var body: [UInt8] = []
    #expect(
      performing: { _ = try decoder.take(Array(text.utf8)[...], into: &body, limit: 5) },
      throws: { ($0 as? HTTPRequestHead.Refusal)?.status == status })
  }

  /// Anything at all: read, or refused with a status.
  @Test func anythingIsReadOrRefused() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let good = Array("POST /a HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n".utf8)
    let chunks = Array("5\r\nhello\r\n0\r\nT: x\r\n\r\n".utf8)
    func spoilt(_ bytes: [UInt8]) -> [UInt8] {
      var bytes = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
        default: bytes.remove(at: place)
        }
      }
      return bytes
    }
    for _ in 0..<20_000 {
      _ = try? HTTPRequestHead(spoilt(good)[...])
      var decoder = HTTPBodyDecoder(.chunked)
      var body: [UInt8] = []
      let bytes = spoilt(chunks)
      let taken = try? decoder.take(bytes[...], into: &body, limit: 64)
      #expect((taken ?? 0) <= bytes.count && body.count <= 64)
    }
  }
}
