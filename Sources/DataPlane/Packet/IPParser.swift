import CLayout
import Wire

/// IP headers into `Packet` fields and the flow key. No trap on any input; `Packet.length` bytes are there.
enum IPParser {
  /// Nil, or why the packet is refused.
  @inline(never)
  static func ipv4(_ packet: PacketPointer) -> DropReason? {
    guard Int(packet.pointee.length) >= IPv4Header.minimumLength else { return .ipTruncated }
    let first = UnsafeRawPointer(packet.pointee.ip).byte(at: 0)
    return first == 0x45 ? ipv4(packet, headerLength: 20) : ipv4WithOptions(packet, first: first)
  }

  @inline(never)
  private static func ipv4WithOptions(_ packet: PacketPointer, first: UInt8) -> DropReason? {
    guard first >> 4 == 4 else { return .ipVersion }
    let headerLength = Int(first & 15) &* 4
    guard headerLength >= 20, headerLength <= Int(packet.pointee.length) else { return .ipHeaderLength }
    // Source routes would let the sender choose the way around the policy (RFC 7126 4.3).
    if hasSourceRoute(UnsafeRawPointer(packet.pointee.ip), headerLength: headerLength) { return .ipSourceRoute }
    return ipv4(packet, headerLength: headerLength)
  }

  @inline(__always)
  private static func ipv4(_ packet: PacketPointer, headerLength: Int) -> DropReason? {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    let total = Int(ip.big16(at: 2))
    guard total >= headerLength, total <= Int(packet.pointee.length) else { return .ipTotalLength }
    let isRight =
      headerLength == 20
      ? IPv4Header.isShortChecksumValid(ip) : InternetChecksum.of(ip, count: headerLength) == 0
    guard isRight else { return .ipChecksum }
    let number = ip.byte(at: 9)
    let fragment = ip.big16(at: 6)
    packet.pointee.length = Int32(truncatingIfNeeded: total)
    var header = packet.header
    header.parsed(payloadOffset: headerLength, ipProtocol: number, version: 4)
    packet.header = header
    packet.marks = PacketMarks.word(
      isFragment: fragment & 0x3fff != 0, trafficClass: ip.byte(at: 1), dontFragment: fragment & 0x4000 != 0)
    packet.pointee.key.source_high = 0
    packet.pointee.key.destination_high = 0
    packet.pointee.key.source_low = UInt64(ip.big32(at: 12))
    packet.pointee.key.destination_low = UInt64(ip.big32(at: 16))
    let rest = rest(
      header, ip + headerLength, length: total &- headerLength, isFragment: fragment & 0x3fff != 0, number: number,
      family: ipv4Family)
    setRest(packet, rest)
    return nil
  }

  /// The key's last eight bytes, with the ports of a whole packet. All fragments of a datagram, the first too, are looked
  /// up without ports, so that they take one way (RFC 4301 7.1: policies with ports do not match them).
  @inline(__always)
  private static func rest(
    _ header: PacketHeader, _ payload: UnsafeRawPointer, length: Int, isFragment: Bool, number: UInt8, family: UInt64
  ) -> UInt64 {
    let rest = UInt64(number) << 32 | family | header.flowBits
    if number == IPProtocol.esp { return rest | hiddenPorts(isFragment: isFragment) }
    if (number == IPProtocol.tcp || number == IPProtocol.udp) && length >= 4 && !isFragment {
      return rest | ports(payload)
    }
    return rest | unusualPorts(payload, length: length, isFragment: isFragment, number: number)
  }

  /// `gw_flow_key.family` of IPv4, in its last eight bytes.
  static var ipv4Family: UInt64 { 2 << 40 }

  /// `opaque_ports`. Whole packets and fragments go different ways, so they are different flows.
  @inline(__always)
  private static func hiddenPorts(isFragment: Bool) -> UInt64 {
    UInt64(GW_FLOW_HIDDEN_PORTS.rawValue | (isFragment ? GW_FLOW_FRAGMENT.rawValue : 0)) << 48
  }

  /// ESP in UDP (RFC 3948 2.1).
  static var encapsulationPort: UInt16 { 4500 }

  /// (source, destination) as they lie in the packet; each in host order, the source in the low half.
  @inline(__always)
  static func ports(_ payload: UnsafeRawPointer) -> UInt64 {
    let ports = payload.loadUnaligned(as: UInt32.self).byteSwapped
    return UInt64(ports << 16 | ports >> 16)
  }

  /// The key's last eight bytes in one store: they are loaded as one word soon, which many small stores would hold up.
  @inline(__always)
  static func setRest(_ packet: PacketPointer, _ word: UInt64) {
    withUnsafeMutableBytes(of: &packet.pointee.key) { $0.storeBytes(of: word, toByteOffset: 32, as: UInt64.self) }
  }

  @inline(never)
  private static func unusualPorts(
    _ payload: UnsafeRawPointer, length: Int, isFragment: Bool, number: UInt8
  ) -> UInt64 {
    let ports = isFragment ? nil : TransportPorts(ipProtocol: number, payload, length: length)
    guard let ports else { return hiddenPorts(isFragment: isFragment) }
    return UInt64(ports.source) | UInt64(ports.destination) << 16
  }

  /// Loose and strict source route options (131, 137).
  private static func hasSourceRoute(_ ip: UnsafeRawPointer, headerLength: Int) -> Bool {
    var offset = 20
    while offset < headerLength {
      switch ip.byte(at: offset) {
      case 0: return false
      case 1: offset &+= 1
      case 131, 137: return true
      default:
        guard offset &+ 1 < headerLength else { return false }
        let size = Int(ip.byte(at: offset &+ 1))
        guard size >= 2 else { return false }
        offset &+= size
      }
    }
    return false
  }

  @inline(never)
  static func ipv6(_ packet: PacketPointer) -> DropReason? {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    if let fault = IPv6Header.fault(ip, length: Int(packet.pointee.length)) {
      switch fault {
      case .truncated: return .ipTruncated
      case .version: return .ipVersion
      case .headerLength: return .ipHeaderLength
      case .totalLength: return .ipTotalLength
      default: return .ipHeaderLength
      }
    }
    let header = IPv6Header(checked: ip)
    let walk = IPv6ExtensionHeaders(header)
    guard walk.fault == nil else { return .ipv6ExtensionHeaders }
    if walk.hasSourceRoute { return .ipSourceRoute }
    packet.pointee.length = Int32(truncatingIfNeeded: header.totalLength)
    var fields = packet.header
    fields.parsed(payloadOffset: Int(walk.upperOffset), ipProtocol: walk.upperProtocol, version: 6)
    packet.header = fields
    packet.marks = PacketMarks.word(
      isFragment: walk.isFragment, trafficClass: header.trafficClass, dontFragment: true)
    packet.pointee.key.source_high = ip.big64(at: 8)
    packet.pointee.key.source_low = ip.big64(at: 16)
    packet.pointee.key.destination_high = ip.big64(at: 24)
    packet.pointee.key.destination_low = ip.big64(at: 32)
    let rest = rest(
      fields, ip + Int(walk.upperOffset), length: header.totalLength &- Int(walk.upperOffset),
      isFragment: walk.isFragment, number: walk.upperProtocol, family: 10 << 40)
    setRest(packet, rest)
    return nil
  }
}
