import Wire

/// Turns the headers before an AH into what its ICV is computed over (RFC 4302 3.3.3.1): what changes on the way becomes
/// zero, what changes predictably becomes what the receiver sees.
public enum AHImage {
  /// The headers before AH: an IPv4 header, or IPv6 with extension headers within the limits of the walk.
  @inlinable public static var maximumLength: Int { IPv6Header.length + IPv6ExtensionHeaders.maximumLength }

  /// - Parameters:
  ///   - ip: `end` bytes, a checked IP header and all that stands before AH.
  ///   - isSealing: outbound: a routing header is turned into what arrives; inbound it must have arrived.
  /// - Returns: false: AH cannot protect these headers; they are left half changed.
  public static func clear(_ ip: UnsafeMutableRawPointer, end: Int, version: UInt8, isSealing: Bool) -> Bool {
    version == 4 ? clear4(ip, end: end) : clear6(ip, end: end, isSealing: isSealing)
  }

  // MARK: IPv4

  /// TOS, flags and fragment offset, TTL and checksum; options by their class (RFC 4302 Appendix A1).
  private static func clear4(_ ip: UnsafeMutableRawPointer, end: Int) -> Bool {
    ip.setByte(0, at: 1)
    ip.setBig16(0, at: 6)
    ip.setByte(0, at: 8)
    ip.setBig16(0, at: 10)
    return end == IPv4Header.minimumLength || clearOptions4(ip, end: end)
  }

  private static func clearOptions4(_ ip: UnsafeMutableRawPointer, end: Int) -> Bool {
    var offset = IPv4Header.minimumLength
    while offset < end {
      let type = UnsafeRawPointer(ip).byte(at: offset)
      if type == 0 { return true }
      if type == 1 {
        offset &+= 1
        continue
      }
      guard offset &+ 1 < end else { return false }
      let size = Int(UnsafeRawPointer(ip).byte(at: offset &+ 1))
      guard size >= 2, offset &+ size <= end else { return false }
      switch type {
      // Security, extended and commercial security, router alert, multi-destination.
      case 130, 133, 134, 148, 149: break
      // Source routes: the destination would be another.
      case 131, 137: return false
      default: (ip + offset).initializeMemory(as: UInt8.self, repeating: 0, count: size)
      }
      offset &+= size
    }
    return true
  }

  // MARK: IPv6

  /// Traffic class, flow label and hop limit; options that say of themselves that they change; the routing header
  /// (RFC 4302 3.3.3.1.2).
  private static func clear6(_ ip: UnsafeMutableRawPointer, end: Int, isSealing: Bool) -> Bool {
    ip.setBig32(0x6000_0000, at: 0)
    ip.setByte(0, at: 7)
    var type = UnsafeRawPointer(ip).byte(at: 6)
    var offset = IPv6Header.length
    while offset < end {
      guard offset &+ 8 <= end else { return false }
      let header = ip + offset
      let size = Int(UnsafeRawPointer(header).byte(at: 1)) &* 8 &+ 8
      guard offset &+ size <= end else { return false }
      switch type {
      case IPProtocol.hopByHop, IPProtocol.destinationOptions:
        guard clearOptions6(header, size: size) else { return false }
      case IPProtocol.routing:
        guard settleRoute(ip, header, size: size, isSealing: isSealing) else { return false }
      default: return false  // a fragment header among them: AH is applied to whole packets
      }
      type = UnsafeRawPointer(header).byte(at: 0)
      offset &+= size
    }
    return true
  }

  /// The third bit of an option's type: its data may change on the way (RFC 8200 4.2).
  private static func clearOptions6(_ header: UnsafeMutableRawPointer, size: Int) -> Bool {
    var offset = 2
    while offset < size {
      let type = UnsafeRawPointer(header).byte(at: offset)
      if type == 0 {
        offset &+= 1
        continue
      }
      guard offset &+ 1 < size else { return false }
      let length = Int(UnsafeRawPointer(header).byte(at: offset &+ 1))
      guard offset &+ 2 &+ length <= size else { return false }
      if type & 0x20 != 0 {
        (header + offset + 2).initializeMemory(as: UInt8.self, repeating: 0, count: length)
      }
      offset &+= 2 &+ length
    }
    return true
  }

  /// As at the final destination: that is the destination address, and no segments are left. Types 0 (RFC 2460) and 2
  /// (RFC 6275) list whole addresses from byte 8 on.
  private static func settleRoute(
    _ ip: UnsafeMutableRawPointer, _ header: UnsafeMutableRawPointer, size: Int, isSealing: Bool
  ) -> Bool {
    let left = Int(UnsafeRawPointer(header).byte(at: 3))
    if left == 0 { return true }
    let type = UnsafeRawPointer(header).byte(at: 2)
    let count = (size &- 8) / 16
    guard isSealing, type == 0 || type == 2, (size &- 8) % 16 == 0, left <= count else { return false }
    let destination = UnsafeRawPointer(ip).ipv6Address(at: 24)
    ip.setAddress(UnsafeRawPointer(header).ipv6Address(at: 8 &+ (count &- 1) &* 16), at: 24)
    // Each node that was visited puts the address it was sent to in place of the one it sends to.
    var index = count &- 1
    while index > count &- left {
      header.setAddress(UnsafeRawPointer(header).ipv6Address(at: 8 &+ (index &- 1) &* 16), at: 8 &+ index &* 16)
      index &-= 1
    }
    header.setAddress(destination, at: 8 &+ (count &- left) &* 16)
    header.setByte(0, at: 3)
    return true
  }
}
