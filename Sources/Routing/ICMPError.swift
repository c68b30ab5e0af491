import Wire

/// Makes ICMP errors about packets, and knows when none may be sent. No state, no I/O: any thread.
///
/// `packet` is the offending packet from its IP header on, of which `length` bytes can be read: fewer than its total
/// length if it lies in several buffers. Functions that make a message return its length, IP header included, or 0 if
/// none must be sent; they never read beyond `length` nor write beyond `capacity`, and input and output do not overlap.
public enum ICMPError {
  /// The longest message with its IP header (RFC 1812 4.3.2.3).
  public static let maximumLengthV4 = 576
  /// RFC 4443 2.4 (c).
  public static let maximumLengthV6 = 1280

  private static let icmpHeaderLength = 8

  // MARK: IPv4

  /// Whether an error about the packet may be sent (RFC 1122 3.2.2, RFC 1812 4.3.2.7). `isLinkMulticast`: it came as a
  /// link-layer broadcast or multicast.
  public static func isAllowed(aboutV4 packet: UnsafeRawPointer, length: Int, isLinkMulticast: Bool = false) -> Bool {
    guard length >= IPv4Header.minimumLength, packet.byte(at: 0) >> 4 == 4, !isLinkMulticast else { return false }
    let header = IPv4Header(checked: packet)
    let headerLength = header.headerLength
    guard headerLength >= IPv4Header.minimumLength, headerLength <= length, header.fragmentOffset == 0 else {
      return false
    }
    let destination = header.destination.rawValue
    guard !Martian.isSource(v4: header.source.rawValue), destination >> 28 < 0xe else { return false }
    guard header.ipProtocol == IPProtocol.icmp else { return true }
    guard headerLength < length else { return false }
    return !isErrorV4(type: packet.byte(at: headerLength))
  }

  /// Destination unreachable, source quench, redirect, time exceeded, parameter problem.
  public static func isErrorV4(type: UInt8) -> Bool { type == 3 || type == 4 || type == 5 || type == 11 || type == 12 }

  /// Writes an ICMP error about an IPv4 packet. `identification`: a number that differs from message to message.
  public static func make(
    _ reason: ICMPReason, aboutV4 packet: UnsafeRawPointer, length: Int, source: IPv4Address,
    identification: UInt16, isLinkMulticast: Bool = false, into message: UnsafeMutableRawPointer, capacity: Int
  ) -> Int {
    let overhead = IPv4Header.minimumLength + icmpHeaderLength
    guard isAllowed(aboutV4: packet, length: length, isLinkMulticast: isLinkMulticast), source.rawValue != 0 else {
      return 0
    }
    let offender = IPv4Header(checked: packet)
    let room = min(capacity, maximumLengthV4) - overhead
    let present = min(length, max(offender.totalLength, offender.headerLength))
    let quoted = min(present, room)
    // RFC 792: the header and the first 8 bytes at least.
    guard quoted >= min(offender.headerLength + 8, present) else { return 0 }
    let total = overhead + quoted
    IPv4Header.write(
      message, source: source, destination: offender.source, ipProtocol: IPProtocol.icmp, totalLength: total,
      typeOfService: 0xc0 | offender.typeOfService & 0x1c,  // Internetwork control (RFC 1812 4.3.2.5), no ECN.
      identification: identification)
    let icmp = message + IPv4Header.minimumLength
    write(reason.v4, quoting: packet, quoted, into: icmp)
    icmp.setBig16(InternetChecksum.of(icmp, count: icmpHeaderLength + quoted), at: 2)
    return total
  }

  // MARK: IPv6

  /// Whether an error about the packet may be sent (RFC 4443 2.4 (e)).
  public static func isAllowed(
    _ reason: ICMPReason, aboutV6 packet: UnsafeRawPointer, length: Int, isLinkMulticast: Bool = false
  ) -> Bool {
    guard length >= IPv6Header.length, packet.byte(at: 0) >> 4 == 6 else { return false }
    let header = IPv6Header(checked: packet)
    let (source, destination) = (header.source, header.destination)
    guard (source.high | source.low) != 0, !Martian.isHostSource(v6High: source.high, low: source.low) else {
      return false
    }
    if isLinkMulticast || Martian.isMulticast(v6High: destination.high) {
      guard reason.answersMulticast else { return false }
    }
    return !mayBeErrorV6(header, length: length)
  }

  /// An ICMPv6 error or redirect, or a piece of ICMPv6 whose type is not in sight.
  private static func mayBeErrorV6(_ header: IPv6Header, length: Int) -> Bool {
    // The walk must not leave what can be read.
    guard header.totalLength <= length else { return mayBeErrorV6(nextHeader: header.nextHeader, header, length) }
    let extensions = IPv6ExtensionHeaders(header)
    guard extensions.upperProtocol == IPProtocol.icmpv6 else { return false }
    let offset = Int(extensions.upperOffset)
    guard extensions.fault == nil, extensions.fragmentOffset == 0, offset < header.totalLength else { return true }
    return isErrorV6(type: header.base.byte(at: offset))
  }

  /// The same for a packet of which only the first bytes can be read: no walk over extension headers, those packets
  /// get no answer.
  private static func mayBeErrorV6(nextHeader: UInt8, _ header: IPv6Header, _ length: Int) -> Bool {
    switch nextHeader {
    case IPProtocol.icmpv6:
      length <= IPv6Header.length || isErrorV6(type: header.base.byte(at: IPv6Header.length))
    case IPProtocol.hopByHop, IPProtocol.routing, IPProtocol.fragment, IPProtocol.destinationOptions: true
    default: false
    }
  }

  static func isErrorV6(type: UInt8) -> Bool { type < 128 || type == 137 }

  /// Writes an ICMPv6 error about an IPv6 packet.
  public static func make(
    _ reason: ICMPReason, aboutV6 packet: UnsafeRawPointer, length: Int, source: IPv6Address,
    isLinkMulticast: Bool = false, into message: UnsafeMutableRawPointer, capacity: Int
  ) -> Int {
    let overhead = IPv6Header.length + icmpHeaderLength
    guard isAllowed(reason, aboutV6: packet, length: length, isLinkMulticast: isLinkMulticast),
      (source.high | source.low) != 0
    else { return 0 }
    let offender = IPv6Header(checked: packet)
    let quoted = min(length, offender.totalLength, min(capacity, maximumLengthV6) - overhead)
    guard quoted >= IPv6Header.length else { return 0 }
    let payload = icmpHeaderLength + quoted
    IPv6Header.write(
      message, source: source, destination: offender.source, nextHeader: IPProtocol.icmpv6, payloadLength: payload)
    let icmp = message + IPv6Header.length
    write(reason.v6, quoting: packet, quoted, into: icmp)
    var sum = InternetChecksum()
    sum.addPseudoHeader(
      source: source, destination: offender.source, ipProtocol: IPProtocol.icmpv6, length: UInt32(payload))
    sum.add(icmp, count: payload)
    icmp.setBig16(sum.value, at: 2)
    return IPv6Header.length + payload
  }

  /// Header with a checksum of zero, and the quoted packet.
  private static func write(
    _ fields: (type: UInt8, code: UInt8, rest: UInt32), quoting packet: UnsafeRawPointer, _ quoted: Int,
    into icmp: UnsafeMutableRawPointer
  ) {
    icmp.setByte(fields.type, at: 0)
    icmp.setByte(fields.code, at: 1)
    icmp.setBig16(0, at: 2)
    icmp.setBig32(fields.rest, at: 4)
    (icmp + icmpHeaderLength).copyMemory(from: packet, byteCount: quoted)
  }
}
