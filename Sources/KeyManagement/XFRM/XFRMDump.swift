import Glibc
import IPsec
import Wire

/// A dump that is under way: a snapshot of the records, sent a datagram at a time.
struct XFRMDump {
  enum Entries {
    case sas(ArraySlice<SARecord>, XFRMDumpFilter)
    case policies(ArraySlice<PolicyRecord>)
  }

  let header: NetlinkHeader
  var entries: Entries
  /// Encoded but not sent: it did not fit the datagram before.
  private var held: [UInt8] = []

  init(header: NetlinkHeader, entries: Entries) {
    self.header = header
    self.entries = entries
  }

  /// The next datagram, of `limit` bytes unless one message alone is longer. The last ends with NLMSG_DONE.
  mutating func next(_ service: XFRMService, limit: Int) -> (datagram: [UInt8], isLast: Bool) {
    var datagram = held
    datagram.reserveCapacity(limit)
    held = []
    while let message = nextMessage(service) {
      if datagram.count + message.count > limit && !datagram.isEmpty {
        held = message
        return (datagram, false)
      }
      datagram += message
    }
    var builder = ByteBuilder(capacity: 20)
    var done = header
    done.type = NetlinkHeader.done
    builder.netlink(done) { $0.append(Int32(0)) }
    // The end stands alone where it would not fit; nothing is held then, so the next call gives just that.
    if datagram.count + builder.count > limit && !datagram.isEmpty { return (datagram, false) }
    return (datagram + builder.bytes, true)
  }

  private mutating func nextMessage(_ service: XFRMService) -> [UInt8]? {
    switch entries {
    case .sas(var rest, let filter):
      defer { entries = .sas(rest, filter) }
      while let record = rest.popFirst() {
        guard filter.matches(record) else { continue }
        let writing = service.writing(record)
        return message { builder in
          writing.info.encode(into: &builder)
          writing.appendAttributes(to: &builder)
        }
      }
    case .policies(var rest):
      defer { entries = .policies(rest) }
      if let record = rest.popFirst() {
        let writing = service.writing(record)
        return message { builder in
          writing.info.encode(into: &builder)
          writing.appendAttributes(to: &builder)
        }
      }
    }
    return nil
  }

  private func message(_ body: (inout ByteBuilder) -> Void) -> [UInt8] {
    var builder = ByteBuilder()
    builder.netlink(header, body)
    return builder.bytes
  }
}

/// XFRMA_PROTO and XFRMA_ADDRESS_FILTER of a GETSA dump.
struct XFRMDumpFilter {
  private var ipProtocol: UInt8 = 0
  private var source: IPPrefix?
  private var destination: IPPrefix?

  init(_ attributes: XFRMAttributes) throws(KeyRefusal) {
    ipProtocol = attributes.uint8(.protocol) ?? 0
    guard var cursor = attributes[.addressFilter] else { return }
    let (sourceAddress, destinationAddress) = (XFRMAddress(from: &cursor), XFRMAddress(from: &cursor))
    let number = cursor.uint16()
    // iproute2 sends an empty filter where it has none.
    guard number != 0 else { return }
    let family = try AddressFamily(xfrm: number)
    source = IPPrefix(sourceAddress.address(family), length: cursor.uint8())
    destination = IPPrefix(destinationAddress.address(family), length: cursor.uint8())
    guard source != nil, destination != nil else { throw .invalid("Invalid prefix length in address filter") }
  }

  func matches(_ record: SARecord) -> Bool {
    let parameters = record.parameters
    guard XFRMProtocolFilter.matches(parameters.saProtocol, ipProtocol) else { return false }
    if let source, !source.contains(parameters.source) { return false }
    if let destination, !destination.contains(parameters.destination) { return false }
    return true
  }
}

/// How the kernel reads the protocol of a flush or dump: 0 is all, 255 is the IPsec protocols.
enum XFRMProtocolFilter {
  private static let anyIPsec: UInt8 = 255

  static func matches(_ saProtocol: SAProtocol, _ number: UInt8) -> Bool {
    number == 0 || number == saProtocol.rawValue || (number == anyIPsec && saProtocol != .ipip)
  }
}
