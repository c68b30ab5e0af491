import CLayout
import IPsec

/// What a packet was parsed to and is sorted by, beside its record: in registers, for what was stored a moment ago is slow
/// to load.
struct ParsedFlow {
  var header: PacketHeader
  /// The address words and the last eight bytes of the key; of IPv6, the low ones.
  var source: UInt64 = 0
  var destination: UInt64 = 0
  var rest: UInt64 = 0

  @inline(__always)
  init(unparsed header: PacketHeader) { self.header = header }

  /// Of a packet that is parsed.
  @inline(__always)
  init(_ packet: PacketPointer) {
    header = packet.header
    source = packet.pointee.key.source_low
    destination = packet.pointee.key.destination_low
    rest = FlowCache.rest(&packet.pointee.key)
  }

  var ipProtocol: UInt8 {
    @inline(__always) get { UInt8(truncatingIfNeeded: rest >> 32) }
  }
  var destinationPort: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: rest >> 16) }
  }
}
