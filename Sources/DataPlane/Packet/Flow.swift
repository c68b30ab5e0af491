import CLayout
import IPsec

/// What the decision about a flow may go by: its key, and nothing else of the packet, for what is decided holds for every
/// packet with that key. Only what left an SA is also looked at for that SA, which the flow cache's entry names.
///
/// Whoever wants to decide by more puts it into the key first, where `IPParser` and `SimpleIPv4` make it, or has nothing kept
/// of the flow (`PolicyExemptions.dependOnMore`).
struct Flow {
  /// Host byte order, as in the SPD.
  let key: gw_flow_key

  @inline(__always)
  init(_ packet: PacketPointer) { key = packet.pointee.key }

  /// In the key's last eight bytes, where `gw_flow_key.direction` is.
  static var originMask: UInt64 { 0x0300_0000_0000_0000 }
  static var portMask: UInt64 { 0xfc00_0000_0000_0000 }
  /// So many ports the key can tell apart.
  static var mostPorts: Int { 64 }

  var origin: PacketOrigin { PacketOrigin(rawValue: key.direction & 3).unsafelyUnwrapped }

  /// The port that it came in by, or for what the host sends the one that its kernel chose.
  var port: UInt16 { UInt16(key.direction >> 2) }

  var isIPv6: Bool { key.family == 10 }

  var isFragment: Bool { UInt32(key.opaque_ports) & GW_FLOW_FRAGMENT.rawValue != 0 }

  /// Of a fragment, of a packet too short to show them, and of protocols that have none.
  var hidesPorts: Bool { key.opaque_ports != 0 }

  /// The key that the SPD is asked with.
  func key(_ direction: gw_direction) -> gw_flow_key {
    var key = key
    key.direction = UInt8(truncatingIfNeeded: direction.rawValue)
    return key
  }
}
