import CDPDK
import Foundation
import Wire

/// A TAP of the host path. Gone with its descriptor, so that a killed process leaves none behind. The control thread
/// makes and configures it; one thread reads and one writes.
public final class TapDevice: @unchecked Sendable {
  public let name: String
  /// Non-blocking; for poll and epoll.
  public let descriptor: Int32
  private var isClosed = false

  /// Made, but down.
  public init(name: String) throws(TapError) {
    guard Self.isValid(name) else { throw .invalidName(name) }
    var buffer = [CChar](repeating: 0, count: 16)
    for (index, byte) in name.utf8.enumerated() { buffer[index] = CChar(bitPattern: byte) }
    let result = cdpdk_tap_open(&buffer)
    guard result >= 0 else { throw Self.error(name, "opening", -result) }
    self.name = name
    descriptor = result
  }

  deinit { close() }

  public func close() {
    guard !isClosed else { return }
    isClosed = true
    Foundation.close(descriptor)
  }

  private static func isValid(_ name: String) -> Bool {
    (1...15).contains(name.utf8.count) && name != "." && name != ".."
      && name.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
      && !name.contains("%")
  }

  private static func error(_ name: String, _ what: String, _ code: Int32) -> TapError {
    switch code {
    case ENOENT, ENODEV, ENXIO: .noDriver
    case EPERM, EACCES: .noPermission(name)
    case EBUSY, EEXIST: .busy(name)
    case EINVAL where what == "opening": .busy(name)  // an interface that is no TAP has the name
    default: .system(name: name, what: what, reason: String(cString: strerror(code)))
    }
  }

  private func check(_ what: String, _ result: Int32) throws(TapError) {
    if result < 0 { throw Self.error(name, what, -result) }
  }

  public func setMACAddress(_ address: MACAddress) throws(TapError) {
    try check("MAC address", cdpdk_interface_set_mac(name, address.bytes))
  }

  public func setMTU(_ mtu: Int) throws(TapError) {
    try check("mtu \(mtu)", cdpdk_interface_set_mtu(name, Int32(clamping: mtu)))
  }

  public func setUp(_ isUp: Bool) throws(TapError) {
    try check("setting up", cdpdk_interface_set_up(name, isUp ? 1 : 0))
  }

  /// Whether a cable is in, as the kernel's routes and routing daemons see it.
  public func setCarrier(_ isUp: Bool) throws(TapError) {
    try check("carrier", cdpdk_tap_set_carrier(descriptor, isUp ? 1 : 0))
  }

  /// The kernel's number of the interface; 0: gone.
  public var index: UInt32 { if_nametoindex(name) }

  public enum Transfer: Sendable, Equatable {
    case done
    /// Nothing to read, or no room to write; try again later.
    case wouldBlock
    /// A frame that does not fit the mbuf, or that the kernel refused; it is lost.
    case dropped
    /// The interface is down or gone.
    case failed(Int32)
  }

  /// Reads one frame into a fresh mbuf of one segment; its length is set if `.done`.
  public func read(into mbuf: Mbuf) -> Transfer {
    let room = mbuf.tailroom
    let count = Foundation.read(descriptor, mbuf.data, room)
    guard count > 0 else { return Self.outcome(errno) }
    // The kernel cuts a frame that is too long without a word.
    guard count < room else { return .dropped }
    mbuf.setLength(count)
    return .done
  }

  /// Writes one frame of any number of segments; the mbuf stays the caller's.
  public func write(_ mbuf: Mbuf) -> Transfer {
    if mbuf.pointee.nb_segs == 1 {
      return Foundation.write(descriptor, mbuf.data, Int(mbuf.pointee.data_len)) < 0 ? Self.outcome(errno) : .done
    }
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: Int(mbuf.pointee.nb_segs)) { parts in
      var segment: Mbuf? = mbuf
      var count = 0
      while let current = segment, count < parts.count {
        parts[count] = iovec(iov_base: current.data, iov_len: Int(current.pointee.data_len))
        count &+= 1
        segment = current.pointee.next
      }
      return writev(descriptor, parts.baseAddress, Int32(truncatingIfNeeded: count)) < 0 ? Self.outcome(errno) : .done
    }
  }

  private static func outcome(_ code: Int32) -> Transfer {
    switch code {
    case EAGAIN, EINTR: .wouldBlock
    case EINVAL, EMSGSIZE, ENOBUFS, ENOMEM: .dropped
    default: .failed(code)
    }
  }
}
