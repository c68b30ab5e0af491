import CLayout
import IPsec
import Routing
import Wire

/// The packet that an ICMP error quotes. Where no policy speaks of the error itself, it goes by the one of the traffic that
/// goes back to the quoted packet's sender (RFC 4301 6.2): else a tunnel for one protocol alone would have what came
/// through it sent back in clear.
enum QuotedPacket {
  /// The flow's packets are ICMP errors.
  static func isQuoted(by flow: Flow) -> Bool {
    guard !flow.hidesPorts else { return false }
    let type = UInt8(truncatingIfNeeded: flow.key.source_port)
    switch flow.key.ip_protocol {
    case IPProtocol.icmp: return ICMPError.isErrorV4(type: type)
    case IPProtocol.icmpv6: return type < 128
    default: return false
    }
  }

  /// By what the answer to the quoted packet would be looked up; nil: none can be told.
  static func returnKey(_ packet: PacketPointer, _ flow: Flow) -> gw_flow_key? {
    guard isQuoted(by: flow) else { return nil }
    let start = Int(packet.pointee.payloadOffset) &+ 8
    let quoted = UnsafeRawPointer(packet.pointee.ip) + start
    let length = Int(packet.pointee.length) &- start
    guard var key = flow.isIPv6 ? keyV6(quoted, length: length) : keyV4(quoted, length: length) else { return nil }
    key.direction = UInt8(GW_OUT.rawValue)
    return key
  }

  private static func keyV4(_ quoted: UnsafeRawPointer, length: Int) -> gw_flow_key? {
    guard length >= IPv4Header.minimumLength, quoted.byte(at: 0) >> 4 == 4 else { return nil }
    let header = IPv4Header(checked: quoted)
    var key = gw_flow_key()
    key.family = AddressFamily.v4.rawValue
    key.source_low = UInt64(header.destination.rawValue)
    key.destination_low = UInt64(header.source.rawValue)
    let isFirst = header.fragmentOffset == 0 && header.headerLength >= IPv4Header.minimumLength
    setPorts(&key, header.ipProtocol, quoted, at: isFirst ? header.headerLength : length, length: length)
    return key
  }

  private static func keyV6(_ quoted: UnsafeRawPointer, length: Int) -> gw_flow_key? {
    guard length >= IPv6Header.length, quoted.byte(at: 0) >> 4 == 6 else { return nil }
    let header = IPv6Header(checked: quoted)
    // A quotation is cut where the error would be too long.
    let headers = IPv6ExtensionHeaders(header, available: length)
    var key = gw_flow_key()
    key.family = AddressFamily.v6.rawValue
    (key.source_high, key.source_low) = (header.destination.high, header.destination.low)
    (key.destination_high, key.destination_low) = (header.source.high, header.source.low)
    let isFirst = headers.fault == nil && headers.fragmentOffset == 0
    setPorts(
      &key, headers.upperProtocol, quoted, at: isFirst ? Int(headers.upperOffset) : length, length: length)
    return key
  }

  /// Turned round, as those of an answer; of an echo request, those of the reply.
  private static func setPorts(
    _ key: inout gw_flow_key, _ number: UInt8, _ quoted: UnsafeRawPointer, at offset: Int, length: Int
  ) {
    key.ip_protocol = number
    guard offset < length, let ports = TransportPorts(ipProtocol: number, quoted + offset, length: length &- offset)
    else {
      key.opaque_ports = UInt8(GW_FLOW_HIDDEN_PORTS.rawValue)
      return
    }
    switch number {
    case IPProtocol.icmp: key.source_port = ports.source == 8 ? 0 : ports.source
    case IPProtocol.icmpv6: key.source_port = ports.source == 128 ? 129 : ports.source
    case IPProtocol.mobility: key.source_port = ports.source
    default: (key.source_port, key.destination_port) = (ports.destination, ports.source)
    }
  }
}
