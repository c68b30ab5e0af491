import Glibc
import IPsec

/// One client of the XFRM socket. Requests in, answers and multicasts out, as a NETLINK_XFRM socket of the kernel would
/// give them. Control thread only.
public final class XFRMSession: KeySession {
  /// The least that a netlink client has room for.
  private static let dumpDatagram = 4096
  /// Longer requests come back cut to their header when they are refused.
  private static let longestEcho = 4096

  let service: XFRMService
  let owner: Owner
  let origin: UInt64
  private let output: KeyOutput
  private(set) var groups: UInt32 = 0
  private var port: UInt32 = 0
  private var options: XFRMHello.Options = []
  private var dump: XFRMDump?
  private var isClosed = false
  public private(set) var refusals: UInt64 = 0

  init(service: XFRMService, owner: Owner, origin: UInt64, output: @escaping KeyOutput) {
    self.service = service
    self.owner = owner
    self.origin = origin
    self.output = output
  }

  public var isListener: Bool { groups & (XFRMGroup.acquire.bit | XFRMGroup.expire.bit) != 0 }

  /// NLMSG_OVERRUN; the shim makes ENOBUFS of it, which is what a kernel socket says.
  public var overrunNotice: [UInt8]? {
    var builder = ByteBuilder(capacity: NetlinkHeader.length)
    builder.netlink(NetlinkHeader(type: NetlinkHeader.overrun, port: port)) { _ in }
    return builder.bytes
  }

  public func close() {
    isClosed = true
    dump = nil
    service.remove(self)
  }

  func notify(_ datagram: [UInt8]) {
    if !isClosed { output(datagram, .notice) }
  }

  func reply(_ datagram: [UInt8]) {
    if !isClosed { output(datagram, .reply) }
  }

  public func receive(_ datagram: UnsafeRawBufferPointer) {
    var requests = NetlinkRequests(datagram)
    while let request = requests.next(), !requests.isMalformed { handle(request) }
    guard requests.isMalformed else { return }
    var cursor = ByteCursor(datagram)
    let header = datagram.count >= NetlinkHeader.length ? NetlinkHeader(from: &cursor) : NetlinkHeader()
    acknowledge(header, nil, .invalid("Message length does not fit the datagram"))
  }

  private func handle(_ request: NetlinkRequest) {
    let header = request.header
    if header.type == NetlinkHeader.noOperation, let hello = XFRMHello(request.payload) {
      greet(hello)
      return
    }
    guard header.flags.contains(.request), header.type >= XFRMMessageType.newSA.rawValue else {
      if header.flags.contains(.acknowledge) { acknowledge(header, request.bytes, nil) }
      return
    }
    service.requester = (header.sequence, answerPort(header))
    defer { service.requester = (0, 0) }
    do throws(KeyRefusal) {
      guard let type = XFRMMessageType(rawValue: header.type) else { throw .invalid("Unknown message type") }
      let isDump = !header.flags.isDisjoint(with: .dump)
      if isDump && (type == .getSA || type == .getPolicy) {
        try beginDump(type, request)
        return
      }
      if let answer = try answer(type, request) { reply(answer) }
      if header.flags.contains(.acknowledge) { acknowledge(header, request.bytes, nil) }
    } catch {
      acknowledge(header, request.bytes, error)
    }
  }

  private func greet(_ hello: XFRMHello) {
    port = hello.port
    groups = groups & ~hello.leave | hello.join
    options = options.subtracting(hello.stated).union(hello.options.intersection(hello.stated))
  }

  private func answerPort(_ header: NetlinkHeader) -> UInt32 { port == 0 ? header.port : port }

  /// A message to this client that answers `header`.
  func answer(
    _ type: XFRMMessageType, to header: NetlinkHeader, _ body: (inout ByteBuilder) -> Void
  ) -> [UInt8] {
    var builder = ByteBuilder()
    builder.netlink(
      NetlinkHeader(type: type.rawValue, sequence: header.sequence, port: answerPort(header)), body)
    return builder.bytes
  }

  /// NLMSG_ERROR; with no refusal, an acknowledgement. `request` is echoed where it is refused.
  private func acknowledge(_ header: NetlinkHeader, _ request: UnsafeRawBufferPointer?, _ refusal: KeyRefusal?) {
    if refusal != nil { refusals += 1 }
    var flags: NetlinkHeader.Flags = []
    let echoed = request?.count ?? 0
    let isCapped = refusal == nil || options.contains(.cappedAcknowledgements) || echoed > Self.longestEcho
    if isCapped { flags.insert(.capped) }
    let isWorded = refusal?.isWorded == true && options.contains(.extendedAcknowledgements)
    let text = isWorded ? refusal?.text : nil
    if text != nil { flags.insert(.acknowledgementAttributes) }
    var builder = ByteBuilder(capacity: 128 + (isCapped ? 0 : echoed))
    let own = NetlinkHeader(
      type: NetlinkHeader.error, flags: flags, sequence: header.sequence, port: answerPort(header))
    builder.netlink(own) { builder in
      builder.append(-(refusal?.code ?? 0))
      header.encode(into: &builder)
      if !isCapped, let request, request.count > NetlinkHeader.length {
        builder.append(bytes: request[NetlinkHeader.length...])
      }
      if let text {
        builder.attribute(1) { builder in
          builder.append(bytes: text.utf8)
          builder.append(UInt8(0))
        }
      }
    }
    reply(builder.bytes)
  }

  // MARK: Dumps

  private func beginDump(_ type: XFRMMessageType, _ request: NetlinkRequest) throws(KeyRefusal) {
    guard dump == nil else { throw KeyRefusal(EBUSY, "A dump is under way on this socket") }
    let header = NetlinkHeader(
      type: type == .getSA ? XFRMMessageType.newSA.rawValue : XFRMMessageType.newPolicy.rawValue, flags: .multipart,
      sequence: request.header.sequence, port: answerPort(request.header))
    if type == .getSA {
      let filter = try XFRMDumpFilter(try XFRMAttributes(request.payload, isDump: true))
      dump = XFRMDump(header: header, entries: .sas((service.store.wantedSAs() + service.store.records())[...], filter))
    } else {
      dump = XFRMDump(header: header, entries: .policies(service.store.policies()[...]))
    }
  }

  public func resume() -> Bool {
    guard !isClosed, var current = dump else { return false }
    let (datagram, isLast) = current.next(service, limit: Self.dumpDatagram)
    dump = isLast ? nil : current
    reply(datagram)
    return true
  }
}
