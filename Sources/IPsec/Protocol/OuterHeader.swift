import CLayout
import Wire

/// The header that tunnel mode puts before ESP: prebuilt once per SA, finished per packet.
///
/// In `gw_sa.outer`: an IPv4 (20 bytes) or IPv6 (40) header, and with UDP encapsulation 8 bytes of UDP. Lengths, IPv4's
/// identification, DF bit, DSCP/ECN and checksum are zero there; `outer_sum` is the sum of the IPv4 header's 16-bit
/// words as this machine loads them, so finishing adds the missing words and folds.
public enum OuterHeader {
  /// TTL and hop limit of tunnel headers (OpenBSD's ip_defttl).
  public static let timeToLive: UInt8 = 64

  /// Fills the template of `sa` and its lengths. Control thread, before publication.
  /// - Parameter dscp: fixed DSCP; nil copies the inner one, packet by packet.
  public static func prepare(
    _ sa: UnsafeMutablePointer<gw_sa>, source: IPAddress, destination: IPAddress, ipProtocol: UInt8,
    encapsulation: UDPEncapsulation?, dscp: UInt8?
  ) {
    let outer = sa.outerHeader
    outer.initializeMemory(as: UInt8.self, repeating: 0, count: 48)
    let nextHeader = encapsulation == nil ? ipProtocol : 17
    let trafficClass = (dscp ?? 0) << 2
    let addresses = source.bytes + destination.bytes
    var length: Int
    if source.family == .v4 {
      length = 20
      outer.storeBytes(of: 0x45, as: UInt8.self)
      outer.storeBytes(of: trafficClass, toByteOffset: 1, as: UInt8.self)
      outer.storeBytes(of: timeToLive, toByteOffset: 8, as: UInt8.self)
      outer.storeBytes(of: nextHeader, toByteOffset: 9, as: UInt8.self)
      (outer + 12).copyMemory(from: addresses, byteCount: 8)
      sa.pointee.outer_sum = (0..<10).reduce(0) { $0 + UInt32(outer.load(fromByteOffset: $1 * 2, as: UInt16.self)) }
    } else {
      length = 40
      outer.storeBytes(of: (0x6000_0000 | UInt32(trafficClass) << 20).bigEndian, as: UInt32.self)
      outer.storeBytes(of: nextHeader, toByteOffset: 6, as: UInt8.self)
      outer.storeBytes(of: timeToLive, toByteOffset: 7, as: UInt8.self)
      (outer + 8).copyMemory(from: addresses, byteCount: 32)
      sa.pointee.outer_sum = 0
    }
    if let encapsulation {
      outer.storeBytes(of: encapsulation.sourcePort.bigEndian, toByteOffset: length, as: UInt16.self)
      outer.storeBytes(of: encapsulation.destinationPort.bigEndian, toByteOffset: length + 2, as: UInt16.self)
      length += 8
    }
    sa.pointee.outer_length = UInt8(length)
  }

  /// The bits of the inner packet's traffic class that the outer one takes over: ECN (RFC 6040 4.1, normal mode) unless
  /// the SA forbids it, DSCP unless the SA fixes it.
  @inlinable @inline(__always)
  public static func copiedClass(_ flags: UInt32) -> UInt8 {
    // One shift by both flags, which are neighbours: a branch for each would cost a run of one packet more.
    let forbidden = flags / GW_SA_NO_ECN.rawValue & 3
    return UInt8(truncatingIfNeeded: 0x00_03_fc_ff as UInt32 >> (forbidden &* 8))
  }

  /// Writes the finished header at `start`, `outer_length` bytes.
  /// - Parameters:
  ///   - length: of the whole IP packet, this header included.
  ///   - trafficClass: the inner packet's TOS or traffic class.
  ///   - dontFragment: the outer DF bit.
  @inlinable @inline(__always)
  public static func write(
    _ sa: UnsafeMutablePointer<gw_sa>, at start: UnsafeMutableRawPointer, length: Int, trafficClass: UInt8,
    flowLabel: UInt32, dontFragment: Bool, identification: UInt16
  ) {
    let flags = sa.pointee.flags
    let outer = UnsafeRawPointer(sa.outerHeader)
    let added = trafficClass & copiedClass(flags)
    if flags & GW_SA_OUTER_V6.rawValue == 0 {
      start.storeBytes(of: outer.loadUnaligned(as: UInt64.self), as: UInt64.self)
      (start + 8).storeBytes(of: outer.loadUnaligned(fromByteOffset: 8, as: UInt64.self), as: UInt64.self)
      (start + 16).storeBytes(of: outer.loadUnaligned(fromByteOffset: 16, as: UInt32.self), as: UInt32.self)
      let tos = outer.load(fromByteOffset: 1, as: UInt8.self) | added
      let total = UInt16(truncatingIfNeeded: length).bigEndian
      let fragment: UInt16 = dontFragment ? UInt16(0x4000).bigEndian : 0
      start.storeBytes(of: tos, toByteOffset: 1, as: UInt8.self)
      start.storeBytes(of: total, toByteOffset: 2, as: UInt16.self)
      start.storeBytes(of: identification, toByteOffset: 4, as: UInt16.self)
      start.storeBytes(of: fragment, toByteOffset: 6, as: UInt16.self)
      // `added` shares no bit with the template's TOS, so the sum of the words is the sum of the parts.
      var sum = sa.pointee.outer_sum &+ UInt32(UInt16(added).bigEndian) &+ UInt32(total)
      sum = sum &+ UInt32(identification) &+ UInt32(fragment)
      sum = (sum & 0xffff) &+ (sum >> 16)
      sum = (sum & 0xffff) &+ (sum >> 16)
      start.storeBytes(of: ~UInt16(truncatingIfNeeded: sum), toByteOffset: 10, as: UInt16.self)
    } else {
      start.copyMemory(from: outer, byteCount: 40)
      let word = UInt32(bigEndian: outer.loadUnaligned(as: UInt32.self)) | UInt32(added) << 20 | flowLabel & 0xfffff
      start.storeBytes(of: word.bigEndian, as: UInt32.self)
      start.storeBytes(of: UInt16(truncatingIfNeeded: length &- 40).bigEndian, toByteOffset: 4, as: UInt16.self)
    }
    if flags & GW_SA_UDP_ENCAP.rawValue != 0 {
      writeUDP(sa, at: start, length: length)
    }
  }

  /// RFC 3948 2.1: the checksum over IPv4 is zero. That over IPv6 is zero here, and summed when the ciphertext is there.
  @inlinable @inline(__always)
  static func writeUDP(_ sa: UnsafeMutablePointer<gw_sa>, at start: UnsafeMutableRawPointer, length: Int) {
    let offset = Int(sa.pointee.outer_length) &- 8
    let ports = UnsafeRawPointer(sa.outerHeader).loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    start.storeBytes(of: ports, toByteOffset: offset, as: UInt32.self)
    let datagram = UInt32(UInt16(truncatingIfNeeded: length &- offset).bigEndian)
    start.storeBytes(of: datagram, toByteOffset: offset &+ 4, as: UInt32.self)
  }
}

extension UnsafeMutablePointer where Pointee == gw_sa {
  /// The 48 bytes of `outer`: line 1 of the SA (asserted in clayout.h).
  @inlinable @inline(__always)
  public var outerHeader: UnsafeMutableRawPointer { UnsafeMutableRawPointer(self) + 64 }
}
