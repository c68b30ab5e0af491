import Foundation
import Synchronization
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Which of the kernel's frames are taken for the key daemon's.
  @Suite(.serialized) struct KeyDaemonTests {
    /// A UDP socket of this process on 127.0.0.1.
    private final class Socket {
      let descriptor: Int32
      let port: UInt16

      init(port: UInt16 = 0, isShared: Bool = false, isBound: Bool = true) throws {
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var on: Int32 = 1
        if isShared { setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4) }
        guard isBound else {
          self.port = 0
          return
        }
        guard let taken = Self.bind(descriptor, port) else { throw POSIXError(.EADDRINUSE) }
        self.port = taken
      }

      deinit { close(descriptor) }

      static func bind(_ descriptor: Int32, _ port: UInt16) -> UInt16? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let done = withUnsafeMutablePointer(to: &address) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            Foundation.bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
          }
        }
        return done ? UInt16(bigEndian: address.sin_port) : nil
      }

      func name(to sockets: KeyDaemonSockets, takesESP: Bool = false) -> Int32 {
        sockets.name(dup(descriptor), takesESP: takesESP)
      }
    }

    private static let local = "127.0.0.1"

    private static func datagram(from port: UInt16, source: String = local, count: Int = 100) -> [UInt8] {
      TestGateway.frame(
        Packets.udp(from: source, to: "198.51.100.2", payload: Array(repeating: 7, count: count), ports: (port, 500)))
    }

    private static func areOurs(_ selection: inout KeyDaemonFrames, _ frames: [[UInt8]], now: Double = 0) -> [Bool] {
      let copies = frames.map { frame in
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: frame.count, alignment: 8)
        copy.copyBytes(from: frame)
        return copy
      }
      defer { copies.forEach { $0.deallocate() } }
      return selection.areOurs(copies.map { UnsafeRawBufferPointer($0) }, now: now)
    }

    /// The TAP is found empty until a socket may be trusted.
    private static func settle(_ sockets: KeyDaemonSockets) {
      sockets.refresh()
      for _ in 0..<3 { sockets.noteEmpty(tap: 0) }
      sockets.refresh()
    }

    @Test func onlyTheNamedSocketsPortAndAddress() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      var selection = KeyDaemonFrames(sockets)
      let socket = try Socket()
      let other = try Socket()
      #expect(selection.isIdle && socket.name(to: sockets, takesESP: true) == 0)
      // What is in the TAP now may be another's, who had the port before.
      #expect(Self.areOurs(&selection, [Self.datagram(from: socket.port)]) == [false])
      Self.settle(sockets)
      let frames = [
        Self.datagram(from: socket.port), Self.datagram(from: other.port),
        Self.datagram(from: socket.port, source: "127.0.0.2"), TestGateway.frame([0x45, 0, 0]),
      ]
      #expect(Self.areOurs(&selection, frames) == [true, false, false, false])
      let summary = sockets.refresh()
      #expect(summary.ports == [socket.port] && summary.encapsulationPorts == [socket.port])
      #expect(summary.shared.isEmpty && !summary.isSettling)
      sockets.giveUp()
    }

    @Test func aClosedSocketVouchesForNothing() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      var selection = KeyDaemonFrames(sockets)
      var socket: Socket? = try Socket()
      let port = try #require(socket).port
      #expect(socket?.name(to: sockets) == 0)
      Self.settle(sockets)
      #expect(Self.areOurs(&selection, [Self.datagram(from: port)]) == [true])
      socket = nil
      // The port is anybody's.
      let thief = try Socket(port: port)
      #expect(thief.port == port && Self.areOurs(&selection, [Self.datagram(from: port)]) == [false])
      #expect(sockets.refresh().ports.isEmpty)
    }

    /// SO_REUSEADDR lets any user be bound to the same port.
    @Test func aPortThatIsSharedIsNobodys() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      var selection = KeyDaemonFrames(sockets)
      var thief: Socket? = try Socket(isShared: true)
      let port = try #require(thief).port
      let socket = try Socket(port: port, isShared: true)
      #expect(socket.name(to: sockets) == 0)
      Self.settle(sockets)
      #expect(Self.areOurs(&selection, [Self.datagram(from: port)]) == [false])
      #expect(sockets.refresh().shared == [port])
      thief = nil
      Self.settle(sockets)
      #expect(Self.areOurs(&selection, [Self.datagram(from: port)]) == [true])
      // It can be shared no more.
      #expect(throws: (any Error).self) { try Socket(port: port, isShared: true) }
    }

    /// pluto and iked ask for the bypass before SO_REUSEADDR and bind().
    @Test func aSocketThatIsBoundLater() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      var selection = KeyDaemonFrames(sockets)
      let socket = try Socket(isShared: true, isBound: false)
      #expect(socket.name(to: sockets) == 0 && sockets.refresh().isSettling)
      let port = try #require(Socket.bind(socket.descriptor, 0))
      #expect(Self.areOurs(&selection, [Self.datagram(from: port)]) == [false])
      Self.settle(sockets)
      #expect(Self.areOurs(&selection, [Self.datagram(from: port)]) == [true])
      #expect(throws: (any Error).self) { try Socket(port: port, isShared: true) }
    }

    @Test func onlyUDPSocketsAreNamed() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      #expect(sockets.name(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), takesESP: false) == EINVAL)
      #expect(sockets.name(open("/dev/null", O_RDONLY), takesESP: false) == EINVAL)
      #expect(sockets.isEmpty)
    }

    private static func fragments(_ datagram: [UInt8], size: Int, identification: UInt8 = 9) -> [[UInt8]] {
      let payload = Array(datagram[34...])
      return stride(from: 0, to: payload.count, by: size).map { offset in
        let end = min(offset + size, payload.count)
        var header = Array(datagram[14..<34])
        header[2] = UInt8((20 + end - offset) >> 8)
        header[3] = UInt8((20 + end - offset) & 255)
        (header[4], header[5]) = (0, identification)
        header[6] = UInt8((offset / 8) >> 8) | (end < payload.count ? 0x20 : 0)
        header[7] = UInt8((offset / 8) & 255)
        return TestGateway.frame(Packets.summed(header + payload[offset..<end]))
      }
    }

    @Test func fragmentsAreTheirDatagrams() throws {
      let sockets = KeyDaemonSockets(taps: 1)
      var selection = KeyDaemonFrames(sockets)
      let (socket, other) = (try Socket(), try Socket())
      #expect(socket.name(to: sockets) == 0)
      Self.settle(sockets)
      let ours = Self.fragments(Self.datagram(from: socket.port, count: 2700), size: 1480)
      let theirs = Self.fragments(Self.datagram(from: other.port, count: 2700), size: 1480, identification: 8)
      #expect(Self.areOurs(&selection, [ours[0], theirs[0], ours[1], theirs[1]]) == [true, false, true, false])
      // In two readings.
      #expect(Self.areOurs(&selection, [ours[0]]) == [true])
      #expect(Self.areOurs(&selection, [ours[1], ours[1]]) == [true, false])
      // A piece that does not go on where the first one ended, comes too late, or whose first one is another's.
      let small = Self.fragments(Self.datagram(from: socket.port, count: 2700), size: 400)
      #expect(Self.areOurs(&selection, [small[0], small[2], small[1], small[2]]) == [true, false, true, true])
      #expect(Self.areOurs(&selection, [ours[0]], now: 10) == [true])
      #expect(Self.areOurs(&selection, [ours[1]], now: 12) == [false])
      let forged = Self.fragments(Self.datagram(from: other.port, count: 2700), size: 1480)
      #expect(Self.areOurs(&selection, [ours[0], forged[0], forged[1]], now: 20) == [true, false, false])
    }

    @Test func theKernelsListIsRead() throws {
      let v4 = """
          sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
          45: 0100007F:1194 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 26116 2 0000000072054c8a 0
         nonsense
          46: 00000000:01F4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000072054c8a 0

        """
      let v6 = """
          sl  local_address                         remote_address  st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
          46: B80D0120000000000000000001000000:1194 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 78 2 0 0

        """
      let table = UDPSocketTable(v4: Array(v4.utf8), v6: Array(v6.utf8))
      #expect(
        table.rows == [
          .init(inode: 26116, user: 1000, address: IPAddress("127.0.0.1")!, port: 4500),
          .init(inode: 77, user: 0, address: IPAddress("0.0.0.0")!, port: 500),
          .init(inode: 78, user: 0, address: IPAddress("2001:db8::1")!, port: 4500),
        ])
      let socket = try Socket()
      #expect(UDPSocketTable.current()?.rows.contains { $0.port == socket.port && $0.user == getuid() } == true)
    }

    @Test func sixIsAsFour() throws {
      let packet = Packets.udp(
        from: "2001:db8::1", to: "2001:db8::2", payload: Array(repeating: 1, count: 64), ports: (500, 500))
      let whole = TestGateway.frame(packet)
      let parsed = try #require(whole.withUnsafeBytes { HostDatagram($0) })
      #expect(parsed.port == 500 && parsed.key.source == IPAddress("2001:db8::1") && !parsed.hasMore)
      // The fragment header: next header, offset with "more", identification.
      func piece(_ offset: Int, _ hasMore: Bool, _ payload: ArraySlice<UInt8>) -> [UInt8] {
        let field = UInt16(offset) | (hasMore ? 1 : 0)
        let header: [UInt8] = [17, 0, UInt8(field >> 8), UInt8(field & 255), 0, 0, 0, 5]
        return TestGateway.frame(
          Packets.ip(from: "2001:db8::1", to: "2001:db8::2", number: 44, payload: header + payload))
      }
      let first = try #require(piece(0, true, packet[40..<80]).withUnsafeBytes { HostDatagram($0) })
      let last = try #require(piece(40, false, packet[80...]).withUnsafeBytes { HostDatagram($0) })
      #expect(first.port == 500 && first.hasMore && first.length == 40 && first.offset == 0)
      #expect(last.port == nil && !last.hasMore && last.offset == 40 && last.key == first.key)
      #expect(last.key.identification == 5)
    }
  }
}
