import CLinux
import Foundation
import StrangerTesting
import Testing

@testable import IPsec
@testable import KeyManagement

/// The shim, called function by function within this process.
@Suite(.serialized, .enabled(if: Shim.library != nil))
struct ShimTests {
  private static let netlinkLevel: Int32 = 270

  private func withShim(_ body: (TestGateway, ShimCalls) throws -> Void) throws {
    let gateway = try TestGateway()
    defer { gateway.stop() }
    let shim = try #require(ShimCalls(directory: gateway.directory))
    try body(gateway, shim)
  }

  private func receive(_ read: (UnsafeMutableRawPointer, Int) -> Int) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 8192)
    let count = buffer.withUnsafeMutableBytes { read($0.baseAddress!, $0.count) }
    return count < 0 ? [] : Array(buffer[..<count])
  }

  @Test func netlinkSocketLooksLikeTheKernels() throws {
    try withShim { gateway, shim in
      let fd = shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), NETLINK_XFRM)
      #expect(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC != 0)
      defer { close(fd) }
      var name = sockaddr_nl()
      name.nl_family = sa_family_t(AF_NETLINK)
      name.nl_groups = XFRMGroup.expire.bit
      let bound = withUnsafePointer(to: &name) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          shim.bind(fd, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
        }
      }
      #expect(bound == 0)
      gateway.wait { $0.xfrmServer.clients.contains { $0.isDaemon } }

      var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
      _ = withUnsafeMutablePointer(to: &name) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { shim.getsockname(fd, $0, &length) }
      }
      #expect(name.nl_family == AF_NETLINK && length == 12 && name.nl_pid == UInt32(getpid()))
      // A second socket of the process has a port of its own.
      let other = shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_XFRM)
      defer { close(other) }
      var otherName = sockaddr_nl()
      _ = withUnsafeMutablePointer(to: &otherName) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { shim.getsockname(other, $0, &length) }
      }
      #expect(otherName.nl_pid != name.nl_pid && otherName.nl_pid != 0)

      let request = XFRMProbe.message(.getSPDInfo, flags: .request) { $0.append(UInt32(0)) }
      // Every way out and every way in.
      _ = request.withUnsafeBytes { shim.send(fd, $0.baseAddress, $0.count, 0) }
      #expect(netlinkType(receive { shim.recv(fd, $0, $1, 0) }) == XFRMMessageType.newSPDInfo.rawValue)
      _ = request.withUnsafeBytes { shim.write(fd, $0.baseAddress, $0.count) }
      #expect(netlinkType(receive { shim.read(fd, $0, $1) }) == XFRMMessageType.newSPDInfo.rawValue)
      _ = request.withUnsafeBytes { bytes in
        let vectors = [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: 16),
          iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress! + 16), iov_len: 4),
        ]
        return shim.writev(fd, vectors, 2)
      }
      #expect(netlinkType(receive { shim.recvChecked(fd, $0, $1, $1, 0) }) == XFRMMessageType.newSPDInfo.rawValue)

      // recvmsg names the kernel as the sender.
      _ = request.withUnsafeBytes { shim.send(fd, $0.baseAddress, $0.count, 0) }
      name.nl_pid = 99
      let reply = receive { buffer, size in
        var vector = iovec(iov_base: buffer, iov_len: size)
        return withUnsafeMutablePointer(to: &vector) { vector in
          withUnsafeMutablePointer(to: &name) { name in
            var message = msghdr()
            message.msg_name = UnsafeMutableRawPointer(name)
            message.msg_namelen = socklen_t(MemoryLayout<sockaddr_nl>.size)
            message.msg_iov = vector
            message.msg_iovlen = 1
            let count = shim.recvmsg(fd, &message, 0)
            #expect(message.msg_namelen == 12)
            return count
          }
        }
      }
      #expect(netlinkType(reply) == XFRMMessageType.newSPDInfo.rawValue && name.nl_pid == 0)
      // Answers carry the socket's port.
      #expect(Array(reply[12..<16]) == withUnsafeBytes(of: UInt32(getpid())) { Array($0) })

      // A duplicate is the same socket.
      let copy = dup(fd)
      defer { close(copy) }
      _ = request.withUnsafeBytes { shim.send(copy, $0.baseAddress, $0.count, 0) }
      #expect(!receive { shim.recv(copy, $0, $1, 0) }.isEmpty)
    }
  }

  @Test func membershipsAndOptions() throws {
    try withShim { gateway, shim in
      let fd = shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_XFRM)
      defer { close(fd) }
      var value: Int32 = 2
      #expect(shim.setsockopt(fd, Self.netlinkLevel, NETLINK_ADD_MEMBERSHIP, &value, 4) == 0)
      gateway.wait { $0.xfrmServer.clients.contains { $0.isDaemon } }
      #expect(gateway.run { $0.xfrmServer.clients.contains { $0.isDaemon } })
      #expect(shim.setsockopt(fd, Self.netlinkLevel, NETLINK_DROP_MEMBERSHIP, &value, 4) == 0)
      gateway.wait { !$0.xfrmServer.clients.contains { $0.isDaemon } }
      #expect(!gateway.run { $0.xfrmServer.clients.contains { $0.isDaemon } })
      value = 1
      #expect(shim.setsockopt(fd, Self.netlinkLevel, NETLINK_EXT_ACK, &value, 4) == 0)
      let bad = XFRMProbe.message(.newSA) { XFRMSAInfo().encode(into: &$0) }
      _ = bad.withUnsafeBytes { shim.send(fd, $0.baseAddress, $0.count, 0) }
      let reply = receive { shim.recv(fd, $0, $1, 0) }
      #expect(String(decoding: reply, as: UTF8.self).contains("Invalid address family"))

      // Sockets that are not ours: encapsulation is swallowed, bypass is never an error, all else passes.
      let udp = shim.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(udp) }
      value = 2
      #expect(shim.setsockopt(udp, Int32(IPPROTO_UDP), 100, &value, 4) == 0)
      #expect(shim.setsockopt(udp, Int32(IPPROTO_IP), 17, &value, 4) == 0)
      value = 1
      #expect(shim.setsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &value, 4) == 0)
      #expect(shim.setsockopt(udp, SOL_SOCKET, 9999, &value, 4) == -1)
    }
  }

  /// A UDP socket with a bypass is the daemon's for IKE: the gateway is told before the call returns.
  @Test func ikeSocketsAreNamed() throws {
    try withShim { gateway, shim in
      var value: Int32 = 2
      for (family, level, option): (Int32, Int32, Int32) in [
        (AF_INET, Int32(IPPROTO_IP), 16), (AF_INET, Int32(IPPROTO_IP), 17), (AF_INET6, Int32(IPPROTO_IPV6), 34),
        (AF_INET6, Int32(IPPROTO_IPV6), 35), (AF_INET, Int32(IPPROTO_UDP), 100),
      ] {
        let udp = shim.socket(family, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(udp) }
        var file = stat()
        fstat(udp, &file)
        #expect(shim.setsockopt(udp, level, option, &value, 4) == 0)
        let last = gateway.run { $0.named.last }
        #expect(last?.inode == UInt64(file.st_ino) && last?.takesESP == (option == 100))
      }
      let count = gateway.run { $0.named.count }
      let tcp = shim.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      defer { close(tcp) }
      #expect(shim.setsockopt(tcp, Int32(IPPROTO_IP), 17, &value, 4) == 0)
      // Refused, and without a gateway: no error of the daemon's.
      gateway.run { $0.refusal = ENOSPC }
      let udp = shim.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(udp) }
      #expect(shim.setsockopt(udp, Int32(IPPROTO_IP), 17, &value, 4) == 0)
      gateway.run { $0.ikeServer.stop() }
      #expect(shim.setsockopt(udp, Int32(IPPROTO_IP), 17, &value, 4) == 0)
      #expect(gateway.run { $0.named.count } == count)
    }
  }

  /// iked polls one millisecond for its answer.
  @Test func pfkeyIsAnswered() throws {
    try withShim { gateway, shim in
      let fd = shim.socket(15, Int32(SOCK_RAW.rawValue), 2)
      #expect(fd >= 0)
      defer { close(fd) }
      let request = PFKeyProbe.message(.register)
      _ = request.withUnsafeBytes { shim.write(fd, $0.baseAddress, $0.count) }
      var waiting = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
      #expect(shim.poll(&waiting, 1, 1) == 1)
      // It peeks at the header, then reads the whole.
      #expect(receive { shim.recv(fd, $0, min($1, 16), Int32(MSG_PEEK)) }.count == 16)
      #expect(receive { shim.read(fd, $0, $1) }.count > 16)
      gateway.wait { $0.pfkeyServer.clients.contains { $0.isDaemon } }
    }
  }

  @Test func overrunIsENOBUFS() throws {
    var limits = KeyConnectionLimits()
    limits.notices = 2000
    let gateway = try TestGateway(.memory, limits: limits)
    defer { gateway.stop() }
    let shim = try #require(ShimCalls(directory: gateway.directory))
    let fd = shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_XFRM)
    defer { close(fd) }
    var group = Int32(XFRMGroup.expire.rawValue)
    #expect(shim.setsockopt(fd, Self.netlinkLevel, NETLINK_ADD_MEMBERSHIP, &group, 4) == 0)
    gateway.wait { $0.xfrmServer.clients.contains { $0.isDaemon } }
    gateway.run { state in
      let sa = SAParameters(spi: 0x1001, source: "10.9.0.1", destination: "10.9.0.2")
      for _ in 0..<5000 { state.memory.emit(.saExpired(SARecord(parameters: sa, state: .dying), hard: false)) }
    }
    #expect(gateway.run { $0.xfrmServer.statistics.droppedNotices } > 0)
    var (received, overruns) = (0, 0)
    while true {
      var waiting = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
      guard poll(&waiting, 1, 300) == 1 else { break }
      if receive({ shim.recv(fd, $0, $1, 0) }).isEmpty {
        #expect(errno == ENOBUFS)
        overruns += 1
      } else {
        received += 1
      }
    }
    #expect(received > 0 && overruns >= 1)
  }

  /// Any user may take abstract names: not so many that none is left.
  @Test func namesThatAreTaken() throws {
    try withShim { _, shim in
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, 8192))
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      var taken: [Int32] = []
      defer { for descriptor in taken { close(descriptor) } }
      let process = UInt32(getpid())
      for port in [process] + (0..<4096).map({ 0x8000_0000 | (process << 12 &+ $0) }) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let hex = String(port, radix: 16)
        let name = "ikeshim/xfrm/" + String(repeating: "0", count: 8 - hex.utf8.count) + hex
        withUnsafeMutableBytes(of: &address.sun_path) { $0[1...].copyBytes(from: name.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
        let length = socklen_t(MemoryLayout<sa_family_t>.size + 1 + name.utf8.count)
        _ = withUnsafePointer(to: &address) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        taken.append(descriptor)
      }
      let fd = shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_XFRM)
      #expect(fd >= 0)
      close(fd)
    }
  }

  /// What a key daemon says there are keys: it says them to root or to its own user.
  @Test(.enabled(if: getuid() == 0)) func aStrangersGatewayIsRefused() throws {
    let socket = try StrangersSocket(named: "xfrm.sock", .sequencedPackets)
    defer { socket.stop() }
    let shim = try #require(ShimCalls(directory: socket.directory))
    #expect(shim.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_XFRM) == -1 && errno == EPERM)
  }
}
