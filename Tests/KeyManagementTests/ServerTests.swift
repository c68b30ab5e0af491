import Foundation
import Testing

@testable import IPsec
@testable import KeyManagement

/// The sockets: who may connect, what a slow or broken client costs, what is told when one leaves.
@Suite(.serialized)
struct ServerTests {
  private func connect(_ path: String) -> Int32 {
    let fd = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
    var address = sockaddr_un(path: path)!
    return address.with { Foundation.connect(fd, $0, $1) } == 0 ? fd : -1
  }

  private func send(_ fd: Int32, _ bytes: [UInt8]) -> Int {
    bytes.withUnsafeBytes { Foundation.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  /// Nil: nothing came in time. Empty: the end.
  private func receive(_ fd: Int32, milliseconds: Int32 = 1000) -> [UInt8]? {
    var waiting = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
    guard poll(&waiting, 1, milliseconds) == 1 else { return nil }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = buffer.withUnsafeMutableBytes { recv(fd, $0.baseAddress, $0.count, 0) }
    return count < 0 ? [] : Array(buffer[..<count])
  }

  @Test func modeAndStaleFile() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let path = gateway.directory + "/xfrm.sock"
    var file = stat()
    #expect(stat(path, &file) == 0 && file.st_mode & 0o777 == 0o600)
    // Somebody listens: a second server is refused and the first goes on.
    #expect(throws: KeySocketError.self) { try ListeningSocket(path: path) }
    let fd = connect(path)
    #expect(fd >= 0)
    close(fd)
    // Nobody listens: replaced.
    let stale = gateway.directory + "/stale.sock"
    let old = try ListeningSocket(path: stale)
    close(old.descriptor)
    let new = try ListeningSocket(path: stale)
    new.close()
    #expect(access(stale, F_OK) != 0)
    // Not a socket: left alone.
    let plain = gateway.directory + "/plain"
    try Data("x".utf8).write(to: URL(fileURLWithPath: plain))
    #expect(throws: KeySocketError.self) { try ListeningSocket(path: plain) }
    #expect(try String(contentsOfFile: plain, encoding: .utf8) == "x")
    #expect(throws: KeySocketError.self) { try ListeningSocket(path: String(repeating: "p", count: 200)) }
  }

  /// Who names no socket is told so, and takes nobody's place.
  @Test func ikeSocketsAreNamedByMessagesOfTheRightForm() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let path = gateway.directory + "/ike.sock"
    for message in [[], [0], [0, 0, 0, 0], [UInt8](repeating: 0, count: 100)] {
      let fd = connect(path)
      #expect(fd >= 0)
      defer { close(fd) }
      _ = send(fd, message)
      if message.isEmpty { shutdown(fd, Int32(SHUT_WR)) }
      let answer = receive(fd)
      #expect(answer == withUnsafeBytes(of: EINVAL) { Array($0) })
      #expect(receive(fd) == [])
    }
    // Those that say nothing do not keep others out for ever: they are so many at most.
    let silent = (0..<64).map { _ in connect(path) }
    defer { silent.forEach { close($0) } }
    let late = connect(path)
    defer { close(late) }
    #expect(receive(late) == [])
    #expect(gateway.run { $0.named.isEmpty })
  }

  /// A server that is stopped does not take the file of the one that came after it.
  @Test func stopLeavesOthersFile() throws {
    let path = NSTemporaryDirectory() + "keymgmt-\(getpid())-stop.sock"
    let first = try ListeningSocket(path: path)
    unlink(path)
    let second = try ListeningSocket(path: path)
    first.close()
    #expect(access(path, F_OK) == 0)
    second.close()
  }

  @Test func otherUsersAreTurnedAway() throws {
    let directory = NSTemporaryDirectory() + "keymgmt-\(getpid())-user"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let loop = PollLoop()
    let service = XFRMService(store: MemoryStore())
    let server = KeySocketServer(
      path: directory + "/x.sock", kind: .xfrm, loop: loop, allowedUser: getuid() + 1
    ) { service.makeSession(owner: $0.owner, origin: $0.origin, output: $1) }
    try server.start()
    defer { server.stop() }
    let fd = connect(server.path)
    defer { close(fd) }
    while loop.turn(milliseconds: 50) {}
    #expect(server.statistics.refused == 1 && server.statistics.connections == 0)
    #expect(receive(fd) == [])
  }

  @Test func aProcessHasSixtyFourConnections() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let path = gateway.directory + "/xfrm.sock"
    var held = (0..<80).map { _ in connect(path) }
    defer { held.forEach { close($0) } }
    gateway.wait { $0.xfrmServer.statistics.accepted + $0.xfrmServer.statistics.crowded == 80 }
    #expect(gateway.run { $0.xfrmServer.statistics.connections } == 64)
    #expect(receive(held[79]) == [])
    // The other socket is another matter, and a place that is left is given away again.
    let other = connect(gateway.directory + "/pfkey.sock")
    close(held.removeFirst())
    gateway.wait { $0.xfrmServer.statistics.connections == 63 && $0.pfkeyServer.statistics.connections == 1 }
    held += [other, connect(path)]
    gateway.wait { $0.xfrmServer.statistics.connections == 64 }
  }

  @Test func leavingIsTold() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let path = gateway.directory + "/xfrm.sock"
    // Two connections of one process share an owner; only the last one's end counts.
    let (first, second) = (connect(path), connect(path))
    gateway.wait { $0.xfrmServer.statistics.connections == 2 }
    #expect(gateway.run { $0.xfrmServer.clients.count } == 1)
    var hello = ByteBuilder()
    hello.netlink(NetlinkHeader(type: NetlinkHeader.noOperation)) {
      XFRMHello(port: 1, join: XFRMGroup.expire.bit).encode(into: &$0)
    }
    #expect(send(first, hello.bytes) == hello.count)
    gateway.wait { $0.xfrmServer.clients.contains { $0.isDaemon } }
    close(first)
    gateway.wait { $0.xfrmServer.statistics.connections == 1 }
    #expect(gateway.run { $0.closed.isEmpty })
    close(second)
    gateway.wait { !$0.closed.isEmpty }
    #expect(gateway.run { $0.closed.map(\.owner) } == [.xfrm(1)])
    #expect(gateway.run { $0.closed.map(\.wasDaemon) } == [true])
  }

  @Test func halfAMessageAndALongOne() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let fd = connect(gateway.directory + "/xfrm.sock")
    defer { close(fd) }
    let whole = Charon.newSA(0xc000_0001)
    #expect(send(fd, Array(whole[..<100])) == 100)
    #expect(netlinkError(receive(fd)) == EINVAL)
    #expect(send(fd, whole) == whole.count)
    #expect(netlinkError(receive(fd)) == 0)
    // Longer than the server reads: what is left of it does not fit its length.
    var long = whole + [UInt8](repeating: 0, count: 80_000)
    long.withUnsafeMutableBytes { $0.storeBytes(of: UInt32(80_000), as: UInt32.self) }
    #expect(send(fd, long) == long.count)
    #expect(netlinkError(receive(fd)) == EINVAL)
    #expect(gateway.run { $0.store.saCount() } == 1)
  }

  /// A client that asks and does not read is held up, costs a bounded queue, and gets every answer once it reads.
  @Test func answersAreNeverDropped() throws {
    var limits = KeyConnectionLimits()
    limits.pause = 16 << 10
    let gateway = try TestGateway(limits: limits)
    defer { gateway.stop() }
    let fd = connect(gateway.directory + "/xfrm.sock")
    defer { close(fd) }
    _ = fcntl(fd, F_SETFL, O_NONBLOCK)
    let request = XFRMProbe.message(.getSPDInfo, flags: .request) { $0.append(UInt32(0)) }
    var sent = 0
    // Until the gateway reads no more.
    for _ in 0..<200 {
      while send(fd, request) == request.count { sent += 1 }
      usleep(1000)
    }
    #expect(sent > 100)
    var received = 0
    while let reply = receive(fd, milliseconds: 300), !reply.isEmpty { received += 1 }
    #expect(received == sent)
  }

  @Test func tooManyUnreadAnswers() throws {
    var limits = KeyConnectionLimits()
    (limits.pause, limits.replies) = (64 << 20, 100 << 10)
    let gateway = try TestGateway(limits: limits)
    defer { gateway.stop() }
    let fd = connect(gateway.directory + "/xfrm.sock")
    defer { close(fd) }
    _ = fcntl(fd, F_SETFL, O_NONBLOCK)
    let request = XFRMProbe.message(.getSPDInfo, flags: .request) { $0.append(UInt32(0)) }
    for _ in 0..<400 where gateway.run({ $0.xfrmServer.statistics.connections == 1 }) {
      while send(fd, request) == request.count {}
    }
    gateway.wait { $0.xfrmServer.statistics.connections == 0 }
    #expect(gateway.run { $0.xfrmServer.statistics.connections } == 0)
  }

  /// Ten thousand SAs by each socket.
  @Test func scale() throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let clock = ContinuousClock()
    let count: UInt32 = 10_000
    let xfrm = connect(gateway.directory + "/xfrm.sock")
    defer { close(xfrm) }
    var took = clock.measure {
      for spi in 1...count {
        _ = send(xfrm, Charon.newSA(0x1_0000 + spi, seed: spi))
        if netlinkError(receive(xfrm)) != 0 { Issue.record("SA \(spi)") }
      }
    }
    print("XFRM: \(count) SAs in \(took)")
    let pfkey = connect(gateway.directory + "/pfkey.sock")
    defer { close(pfkey) }
    took = clock.measure {
      for spi in 1...count {
        _ = send(pfkey, Iked.sa(.add, 0x10_0000 + spi, from: Iked.a, to: Iked.b))
        if receive(pfkey)?[2] != 0 { Issue.record("SA \(spi)") }
      }
    }
    print("PF_KEY: \(count) SAs in \(took)")
    #expect(gateway.run { $0.store.saCount() } == Int(2 * count))
    var dumped = 0
    took = clock.measure {
      _ = send(xfrm, XFRMProbe.message(.getSA, flags: [.request, .dump]) { _ in })
      dump: while let datagram = receive(xfrm, milliseconds: 20_000), !datagram.isEmpty {
        var parsed: [UInt16] = []
        datagram.withUnsafeBytes { bytes in
          var requests = NetlinkRequests(bytes)
          while let message = requests.next() { parsed.append(message.header.type) }
        }
        dumped += parsed.filter { $0 == XFRMMessageType.newSA.rawValue }.count
        if parsed.contains(NetlinkHeader.done) { break dump }
      }
    }
    print("XFRM: dump of \(dumped) in \(took)")
    #expect(dumped == Int(2 * count))
  }
}
