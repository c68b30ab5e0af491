import ControlAPI
import ControlAPITesting
import Foundation
import Glibc
import KeyManagement
import Logging
import Synchronization
import Testing
import Threads

@testable import ControlPlane

/// Clients that are many, slow or silent, and a server that stops among them.
@Suite(.timeLimit(.minutes(2))) struct APIServerLoadTests {
  /// A client's end, written and read by hand.
  final class Wire: Sendable {
    let descriptor: Int32

    init?(_ path: String) {
      descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      guard var address = sockaddr_un(path: path), address.with({ connect(descriptor, $0, $1) }) == 0 else {
        return nil
      }
      setLimit()
    }

    /// To 127.0.0.1.
    init?(port: UInt16) {
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      guard status == 0 else { return nil }
      setLimit()
    }

    deinit { close(descriptor) }

    private func setLimit() {
      var limit = timeval(tv_sec: 20, tv_usec: 0)
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    @discardableResult func say(_ text: String) -> Bool {
      send(descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count
    }

    /// Until `end` was read, or the connection ends.
    func hear(until end: String? = nil) -> String {
      var heard: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 65536)
      while true {
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { break }
        heard += buffer[..<count]
        if let end, String(decoding: heard, as: UTF8.self).contains(end) { break }
      }
      return String(decoding: heard, as: UTF8.self)
    }
  }

  /// Off Swift's pool.
  private func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
  }

  private static let get = "GET /v1/status HTTP/1.1\r\nHost: gw\r\n\r\n"

  private static func post(_ count: Int) -> String {
    "POST /v1/flush HTTP/1.1\r\nHost: gw\r\nContent-Length: \(count)\r\n\r\n"
  }

  /// JSON of so many bytes.
  private static func flush(_ count: Int) -> String {
    let text = #"{"what":"all"}"#
    return text + String(repeating: " ", count: max(0, count - text.utf8.count))
  }

  // MARK: Stopping

  /// Clients connect at every moment of the stop.
  @Test func stopsWhileClientsConnect() async throws {
    for round in 0..<40 {
      let fixture = try ServerFixture()
      try await fixture.server.started()
      let path = fixture.path
      let ended = Atomic(false)
      try await blocking {
        let clients = try (0..<3).map { number in
          try JoinableThread(name: "client") {
            var held: [Wire] = []
            while !ended.load(ordering: .relaxed) {
              guard let wire = Wire(path) else { continue }
              if number > 0 { wire.say(number == 1 ? Self.get : "GET /v1/events HTTP/1.1\r\nHost: gw\r\n\r\n") }
              held.append(wire)
              if held.count > 8 { held.removeFirst() }
            }
          }
        }
        usleep(UInt32(round) * 500)
        fixture.server.stop()
        ended.store(true, ordering: .relaxed)
        for client in clients { client.join() }
      }
      #expect(Wire(path) == nil)
      await fixture.close()
    }
  }

  @Test func whatWasNotBegunIsRefusedAtTheStop() async throws {
    try await ServerFixture.with { fixture async throws in
      let (server, path) = (fixture.server, fixture.path)
      let answer = try await blocking { () -> String in
        let wire = try #require(Wire(path))
        wire.say(Self.post(20) + "{")
        usleep(100_000)
        server.close()
        wire.say(String(Self.flush(20).dropFirst()))
        return wire.hear()
      }
      #expect(answer.hasPrefix("HTTP/1.1 503 "))
      #expect(fixture.gateway.state.withLock { $0.flushes.isEmpty })
    }
  }

  // MARK: Requests by hand

  @Test func requestsOneBehindTheOther() async throws {
    try await ServerFixture.with { fixture async throws in
      let path = fixture.path
      let heard = try await blocking { () -> [String] in
        let wire = try #require(Wire(path))
        wire.say("\r\n" + Self.get + Self.post(20) + Self.flush(20) + "GET /nowhere HTTP/1.1\r\nHost: gw\r\n\r\n")
        let first = wire.hear(until: "no such path")
        // In three pieces, and answered before the client sends what it announces.
        wire.say("POST /v1/flush HTTP/1.1\r\nHost: gw\r\nExp")
        usleep(20_000)
        wire.say("ect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        let second = wire.hear(until: "\r\n\r\n")
        wire.say("e\r\n" + Self.flush(14) + "\r\n0\r\n\r\n")
        let third = wire.hear(until: "}")
        wire.say("HEAD /v1/status HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n")
        let old = try #require(Wire(path))
        old.say("GET /v1/sa HTTP/1.0\r\n\r\n")
        let noHost = try #require(Wire(path))
        noHost.say("GET /v1/status HTTP/1.1\r\n\r\n")
        return [first, second, third, wire.hear(), old.hear(), noHost.hear()]
      }
      #expect(heard[0].components(separatedBy: "HTTP/1.1 200 OK").count == 3 && heard[0].contains("HTTP/1.1 404"))
      #expect(heard[1] == "HTTP/1.1 100 Continue\r\n\r\n")
      #expect(heard[2].hasPrefix("HTTP/1.1 200 OK") && heard[2].contains(#""sas":1"#))
      #expect(heard[3].hasPrefix("HTTP/1.1 405") && heard[3].hasSuffix("\r\n\r\n"))
      #expect(heard[4].hasPrefix("HTTP/1.1 200") && !heard[4].contains("chunked") && heard[4].hasSuffix("]\n"))
      #expect(heard[5].hasPrefix("HTTP/1.1 400") && heard[5].contains("connection: close"))
    }
  }

  // MARK: Bodies

  /// Each may have the limit, but not all at once: the second is not read before the first has its answer.
  @Test func largeBodiesAreReadOneAtATime() async throws {
    let size = 4 << 20
    try await ServerFixture.with(bodyLimit: size) { fixture async throws in
      let path = fixture.path
      let order = Mutex<[Int]>([])
      let wroteSecond = Atomic(false)
      try await blocking {
        let first = try #require(Wire(path))
        first.say(Self.post(size))
        first.say(String(Self.flush(size).prefix(size / 2)))
        usleep(100_000)
        let other = try JoinableThread(name: "second") {
          guard let second = Wire(path) else { return }
          second.say(Self.post(size) + Self.flush(size))
          wroteSecond.store(true, ordering: .relaxed)
          if second.hear(until: "}").contains(" 200 ") { order.withLock { $0.append(2) } }
        }
        usleep(300_000)
        // What a socket holds was taken from it, no more.
        let isHeld = !wroteSecond.load(ordering: .relaxed)
        // Small requests go on meanwhile.
        let small = try #require(Wire(path))
        small.say(Self.post(20) + Self.flush(20))
        if small.hear(until: "}").contains(" 200 ") { order.withLock { $0.append(0) } }
        first.say(String(Self.flush(size).suffix(size / 2)))
        if first.hear(until: "}").contains(" 200 ") { order.withLock { $0.append(1) } }
        other.join()
        #expect(isHeld)
      }
      #expect(order.withLock { $0 } == [0, 1, 2])
    }
  }

  @Test func whoIsSlowIsGivenUp() async throws {
    var patience = HTTPConnection.Patience()
    patience.idle = .milliseconds(300)
    patience.head = .milliseconds(300)
    patience.silence = .milliseconds(300)
    try await ServerFixture.with(changing: { [patience] in $0.patience = patience }) { fixture async throws in
      let path = fixture.path
      let heard = try await blocking { () -> [String] in
        let wires = try (0..<3).map { _ in try #require(Wire(path)) }
        wires[1].say("GET /v1/sta")
        wires[2].say(Self.post(1 << 20) + "{")
        return wires.map { $0.hear() }
      }
      #expect(heard[0].isEmpty)
      #expect(heard[1].hasPrefix("HTTP/1.1 408") && heard[2].hasPrefix("HTTP/1.1 408"))
    }
  }

  // MARK: Places

  /// All places are taken by clients that say nothing, on both sockets.
  @Test func silentClientsShutNobodyOut() async throws {
    let port = UInt16.random(in: 20_000..<30_000)
    try await ServerFixture.with(changing: { $0.metrics = ("127.0.0.1", port) }) { fixture async throws in
      let path = fixture.path
      try await blocking {
        var silent: [Wire] = []
        for _ in 0..<100 {
          silent.append(try #require(Wire(port: port)))
          silent.append(try #require(Wire(path)))
        }
        let scraper = try #require(Wire(port: port))
        scraper.say("GET /metrics HTTP/1.1\r\nHost: gw\r\n\r\n")
        #expect(scraper.hear(until: "gw_sas 1").hasPrefix("HTTP/1.1 200"))
        // Nothing but /metrics over TCP.
        scraper.say(Self.get)
        #expect(scraper.hear(until: "no such path").contains("HTTP/1.1 404"))
        let client = try #require(Wire(path))
        client.say(Self.get)
        #expect(client.hear(until: "version").hasPrefix("HTTP/1.1 200"))
        withExtendedLifetime(silent) {}
      }
    }
  }
}
