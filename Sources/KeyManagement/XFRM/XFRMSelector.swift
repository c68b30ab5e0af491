import IPsec
import Wire

/// `struct xfrm_selector`, 56 bytes.
struct XFRMSelector: Equatable, Sendable {
  static let length = 56

  var destination = XFRMAddress()
  var source = XFRMAddress()
  var destinationPort: UInt16 = 0
  var destinationPortMask: UInt16 = 0
  var sourcePort: UInt16 = 0
  var sourcePortMask: UInt16 = 0
  var family: UInt16 = 0
  var destinationPrefix: UInt8 = 0
  var sourcePrefix: UInt8 = 0
  var ipProtocol: UInt8 = 0
  var interface: Int32 = 0
  var user: UInt32 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    destination = XFRMAddress(from: &cursor)
    source = XFRMAddress(from: &cursor)
    destinationPort = cursor.bigUInt16()
    destinationPortMask = cursor.bigUInt16()
    sourcePort = cursor.bigUInt16()
    sourcePortMask = cursor.bigUInt16()
    family = cursor.uint16()
    destinationPrefix = cursor.uint8()
    sourcePrefix = cursor.uint8()
    ipProtocol = cursor.uint8()
    cursor.skip(3)
    interface = cursor.int32()
    user = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    destination.encode(into: &builder)
    source.encode(into: &builder)
    builder.appendBig(destinationPort)
    builder.appendBig(destinationPortMask)
    builder.appendBig(sourcePort)
    builder.appendBig(sourcePortMask)
    builder.append(family)
    builder.append(destinationPrefix)
    builder.append(sourcePrefix)
    builder.append(ipProtocol)
    builder.zeros(3)
    builder.append(interface)
    builder.append(user)
  }

  init(_ selector: Selector) {
    destination = XFRMAddress(selector.destination.address)
    source = XFRMAddress(selector.source.address)
    (destinationPort, destinationPortMask) = Self.masked(selector.destinationPorts)
    (sourcePort, sourcePortMask) = Self.masked(selector.sourcePorts)
    family = UInt16(selector.family.rawValue)
    destinationPrefix = selector.destination.length
    sourcePrefix = selector.source.length
    ipProtocol = selector.ipProtocol ?? 0
  }

  /// As the database has it; `invalid` where the kernel says so, `unsupported` for what only Linux's stack can match.
  func selector(default family: UInt16) throws(KeyRefusal) -> Selector {
    let family = try AddressFamily(xfrm: self.family == 0 ? family : self.family)
    guard let destination = IPPrefix(destination.address(family), length: destinationPrefix),
      let source = IPPrefix(source.address(family), length: sourcePrefix)
    else { throw .invalid("Invalid prefix length in selector (must be <= \(family.bits) for \(family))") }
    guard interface == 0, user == 0 else { throw .unsupported("Selectors by interface or user are not supported") }
    guard ipProtocol != IPProtocol.gre || (destinationPortMask | sourcePortMask) == 0 else {
      throw .unsupported("Selectors by GRE key are not supported")
    }
    return Selector(
      source: source, destination: destination, ipProtocol: ipProtocol == 0 ? nil : ipProtocol,
      sourcePorts: try Self.range(sourcePort, sourcePortMask),
      destinationPorts: try Self.range(destinationPort, destinationPortMask))
  }

  /// No restriction at all.
  var isAny: Bool {
    (destinationPrefix, sourcePrefix, ipProtocol, destinationPortMask, sourcePortMask) == (0, 0, 0, 0, 0)
  }

  private static func range(_ port: UInt16, _ mask: UInt16) throws(KeyRefusal) -> ClosedRange<UInt16> {
    guard (~mask &+ 1) & ~mask == 0 else { throw .unsupported("Port masks with holes are not supported") }
    return port & mask...(port & mask | ~mask)
  }

  /// The narrowest port and mask that hold the range.
  private static func masked(_ range: ClosedRange<UInt16>) -> (UInt16, UInt16) {
    let differing = range.lowerBound ^ range.upperBound
    let mask = differing == 0 ? UInt16.max : ~UInt16((1 << UInt32(16 - differing.leadingZeroBitCount)) - 1)
    return (range.lowerBound & mask, mask)
  }
}
