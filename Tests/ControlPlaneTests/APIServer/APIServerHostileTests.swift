import ControlAPI
import ControlAPITesting
import Foundation
import Glibc
import SeededRandom
import Testing

@testable import ControlPlane

/// Requests that nobody should send: refused with a 4xx, and the server lives.
@Suite struct APIServerHostileTests {
  @Test func refusalsOfEveryKind() async throws {
    try await ServerFixture.with { fixture async throws in
      func expect(_ status: Int, _ arguments: [String], _ detail: String) async throws {
        let answer = try await fixture.curl(arguments)
        #expect(answer.status == status, "\(arguments): \(answer)")
        #expect(answer.body.contains(detail), "\(arguments): \(answer)")
      }
      let load = "http://gw/v1/load"
      try await expect(404, ["http://gw/v2/status"], "no such path")
      try await expect(404, ["http://gw/"], "no such path")
      try await expect(405, ["-X", "POST", "http://gw/v1/status"], "takes GET")
      try await expect(405, ["-X", "DELETE", load], "takes POST")
      try await expect(400, ["http://gw/v1/sa?keys=yes"], "keys is 0 or 1")
      for body in ["", "{", "[]", "null", "7", "\u{0}", "{\"mode\":\"add\"}", String(repeating: "[", count: 100_000)] {
        try await expect(400, ["--data-binary", body.replacing("\u{0}", with: "%00"), load], "malformed")
      }
      try await expect(
        400,
        ["-d", #"{"mode":"add","rules":[{"sa":{"spi":"x","source":"10.0.0.1","destination":"10.0.0.2"}}]}"#, load],
        "rules[0].sa.spi")
      try await expect(400, ["-d", #"{"what":"everything"}"#, "http://gw/v1/flush"], "what")
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty && $0.flushes.isEmpty })
      #expect(try await fixture.call { try $0.status() }.version == "1.0.0")
    }
  }

  @Test func aBodyTooLargeIsRefused() async throws {
    try await ServerFixture.with(bodyLimit: 1 << 20) { fixture async throws in
      let file = fixture.directory + "/big"
      try Data(repeating: 0x20, count: 3 << 20).write(to: URL(fileURLWithPath: file))
      let load = "http://gw/v1/load"
      let sized = try await fixture.curl(["--data-binary", "@" + file, load])
      #expect(sized.status == 413 && sized.body.contains("too_large"))
      let chunked = try await fixture.curl(["-H", "Transfer-Encoding: chunked", "--data-binary", "@" + file, load])
      #expect(chunked.status == 413)
      #expect(try await fixture.call { try $0.status() }.version == "1.0.0")
    }
  }

  @Test func rubbishOnTheSocketHurtsNobody() async throws {
    try await ServerFixture.with { fixture async throws in
      let seed = UInt64.random(in: 0...UInt64.max)
      print("seed \(seed)")
      var random = SeededGenerator(seed: seed)
      for round in 0..<50 {
        let descriptor = try #require(connect(fixture.path))
        var bytes = (0..<Int.random(in: 1...4096, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
        }
        // Half of them begin like a request.
        if round % 2 == 0 { bytes = Array("POST /v1/load HTTP/1.1\r\nContent-Length: 99999\r\n".utf8) + bytes }
        _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        close(descriptor)
      }
      #expect(try await fixture.call { try $0.status() }.version == "1.0.0")
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty })
    }
  }

  /// A request that never ends, a connection that says nothing, and a reader of events that does not read.
  @Test(.timeLimit(.minutes(1))) func stopWaitsForNobody() async throws {
    let fixture = try ServerFixture()
    try await fixture.server.started()
    let texts = [
      "POST /v1/load HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{", "",
      "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    var descriptors: [Int32] = []
    for text in texts {
      let descriptor = try #require(connect(fixture.path))
      descriptors.append(descriptor)
      _ = send(descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL))
    }
    for _ in 0..<500 where fixture.gateway.broadcaster.readerCount == 0 { try await Task.sleep(for: .milliseconds(10)) }
    // More than a socket's buffers hold.
    for _ in 0..<2000 { fixture.gateway.broadcaster.publish(.saAdded(Samples.record)) }
    try await Task.sleep(for: .milliseconds(100))
    let start = ContinuousClock.now
    await fixture.server.stopped(grace: .milliseconds(500))
    #expect(ContinuousClock.now - start < .seconds(5))
    for descriptor in descriptors { close(descriptor) }
    await fixture.close()
  }

  private func connect(_ path: String) -> Int32? {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    return result == 0 ? descriptor : nil
  }
}
