import CLinux
import Foundation
import Threads

/// IKE's messages (UDP 500, and 4500 behind the non-ESP marker) as the kernel sees them on the ports' TAPs, written in
/// pcap format. They are as they were on the wire: encrypted from the third on. A thread of its own reads them.
final class IKECapture: @unchecked Sendable {
  struct Failure: Error, CustomStringConvertible { let description: String }

  let path: String
  private let file: Int32
  private let sockets: [Int32]
  private let wakeup: Int32
  private var thread: JoinableThread?
  private static let sizeLimit = 256 << 20

  init(path: String, interfaces: [String]) throws(Failure) {
    self.path = path
    guard !interfaces.isEmpty else { throw Failure(description: "no port has a TAP (host: true)") }
    var opened: [Int32] = []
    func give(up reason: String) -> Failure {
      for descriptor in opened { close(descriptor) }
      return Failure(description: reason)
    }
    for name in interfaces {
      let index = if_nametoindex(name)
      let descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      guard descriptor >= 0 else { throw give(up: "packet socket: \(Self.reason)") }
      opened.append(descriptor)
      var address = sockaddr_ll()
      address.sll_family = UInt16(AF_PACKET)
      address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
      address.sll_ifindex = Int32(index)
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
        }
      }
      guard index > 0, status == 0 else { throw give(up: "\(name): \(Self.reason)") }
    }
    // Never through a link, as the folder may be others'.
    unlink(path)
    file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw give(up: "\(path): \(Self.reason)") }
    sockets = opened
    wakeup = eventfd(0, Int32(EFD_CLOEXEC))
    Self.write(file, Self.header)
    do { thread = try JoinableThread(name: "gw-capture") { [self] in run() } } catch {
      throw Failure(description: error.description)
    }
  }

  deinit { for descriptor in sockets + [file, wakeup] { close(descriptor) } }

  /// The file is complete when this returns.
  func stop() {
    var one: UInt64 = 1
    _ = Glibc.write(wakeup, &one, 8)
    thread?.join()
  }

  private static var reason: String { String(cString: strerror(errno)) }

  /// Microseconds, whole packets, Ethernet.
  private static let header: [UInt8] = {
    var bytes: [UInt8] = []
    for word: UInt32 in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1] {
      withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
    }
    return bytes
  }()

  private static func write(_ file: Int32, _ bytes: [UInt8]) {
    _ = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
  }

  private func run() {
    var buffer = [UInt8](repeating: 0, count: 65536)
    var entries = ([wakeup] + sockets).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    var written = Self.header.count
    while poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR {
      if entries[0].revents != 0 { return }
      for entry in entries.dropFirst() where entry.revents != 0 {
        let count = recv(entry.fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        guard count > 0, Self.isIKE(buffer[..<count]), written + count + 16 <= Self.sizeLimit else { continue }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var record: [UInt8] = []
        for word in [UInt32(truncatingIfNeeded: now.tv_sec), UInt32(now.tv_nsec / 1000), UInt32(count), UInt32(count)] {
          withUnsafeBytes(of: word) { record.append(contentsOf: $0) }
        }
        Self.write(file, record + buffer[..<count])
        written += count + 16
      }
    }
  }

  /// Frames of UDP to or from port 500, or 4500 with the marker; a first fragment counts, later ones do not.
  static func isIKE(_ frame: ArraySlice<UInt8>) -> Bool {
    let base = frame.startIndex
    func word(_ offset: Int) -> Int? {
      base + offset + 2 <= frame.endIndex ? Int(frame[base + offset]) << 8 | Int(frame[base + offset + 1]) : nil
    }
    let udp: Int
    switch word(12) {
    case 0x0800:
      guard frame.count >= 34, frame[base + 23] == 17, let fragment = word(20), fragment & 0x1fff == 0 else {
        return false
      }
      udp = 14 + Int(frame[base + 14] & 15) * 4
    case 0x86dd:
      guard frame.count >= 54, frame[base + 20] == 17 else { return false }
      udp = 54
    default: return false
    }
    guard let source = word(udp), let destination = word(udp + 2) else { return false }
    if source == 500 || destination == 500 { return true }
    guard source == 4500 || destination == 4500 else { return false }
    return word(udp + 8) == 0 && word(udp + 10) == 0
  }
}
