import Glibc
import Testing
import Wire

@testable import IPsec
@testable import KeyManagement

/// What is taken of the attributes that only some kernels or some devices act on, and what it comes to.
/// What is refused: ErrnoTests.
struct XFRMSupportTests {
  private static let spi: UInt32 = 0xc000_0009

  private func add(
    _ probe: XFRMProbe, window: UInt32 = 32, set: (inout XFRMSAInfo) -> Void = { _ in },
    _ attributes: (inout ByteBuilder) -> Void
  ) -> Int32? {
    let replies = probe.request(.newSA) { builder in
      var info = Charon.info(Self.spi, from: Charon.a, to: Charon.b, soft: (0, 0))
      set(&info)
      info.encode(into: &builder)
      if window > 0 { Charon.appendGCM(&builder, seed: 1, window: window) }
      attributes(&builder)
    }
    return netlinkError(replies.first)
  }

  private func given(_ type: XFRMAttributeType, _ probe: XFRMProbe) -> [UInt8]? {
    let reply = probe.send(Charon.id(.getSA, Self.spi, to: Charon.b)).first ?? []
    return attribute(type, of: reply, after: XFRMSAInfo.length)
  }

  /// A window of 0 is what an output SA has, and the only one.
  @Test func outputDirection() throws {
    let probe = XFRMProbe()
    let error = add(probe, window: 0) { builder in
      builder.attribute(.aead) { builder in
        builder.append("rfc4106(gcm(aes))", size: 64)
        builder.append(UInt32(160))
        builder.append(UInt32(128))
        builder.zeros(20)
      }
      builder.attribute(.direction) { $0.append(UInt8(2)) }
      builder.attribute(.replayESNValue) { $0.zeros(XFRMReplayESN.length) }
    }
    #expect(error == 0)
    #expect(probe.store.records().first?.parameters.direction == .out)
    #expect(given(.direction, probe) == [2])
  }

  @Test func inputDirection() throws {
    let probe = XFRMProbe()
    #expect(add(probe) { $0.attribute(.direction) { $0.append(UInt8(1)) } } == 0)
    #expect(probe.store.records().first?.parameters.direction == .in)
    #expect(given(.direction, probe) == [1])
  }

  /// RFC 9611: the SA is taken with its resource's number, which is given back; every worker may use it.
  @Test func cpu() {
    let probe = XFRMProbe()
    #expect(add(probe) { $0.attribute(.cpu) { $0.append(UInt32(3)) } } == 0)
    #expect(given(.cpu, probe) == [3, 0, 0, 0])
  }

  /// Crypto offload is done in software, as in the kernel where a device has none; it is not given back.
  @Test func cryptoOffload() {
    let probe = XFRMProbe()
    #expect(add(probe) { $0.attribute(.offloadDevice) { $0.append(bytes: [2, 0, 0, 0, 2, 0, 0, 0]) } } == 0)
    #expect(given(.offloadDevice, probe) == nil)
  }

  /// Turned off, which they are.
  @Test func thresholdsOfZero() {
    let probe = XFRMProbe()
    let error = add(probe) { builder in
      for type in [XFRMAttributeType.replayThreshold, .timerThreshold] { builder.attribute(type) { $0.zeros(4) } }
      builder.attribute(.setMark) { $0.zeros(4) }
    }
    #expect(error == 0)
  }

  /// An SA is not found by another mark or interface: they bind it to its policies.
  @Test func markAndInterface() {
    let probe = XFRMProbe()
    let error = add(probe) { builder in
      builder.attribute(.mark) { $0.append(UInt64(0xff) << 32 | 5) }
      builder.attribute(.interfaceID) { $0.append(UInt32(9)) }
    }
    #expect(error == 0)
    #expect(given(.mark, probe) == [5, 0, 0, 0, 0xff, 0, 0, 0])
    #expect(given(.interfaceID, probe) == [9, 0, 0, 0])
    let parameters = probe.store.records().first?.parameters
    #expect(parameters?.mark == Mark(value: 5, mask: 0xff) && parameters?.interfaceID == 9)
  }

  /// Both numbers of the replay state come back as they were set, whichever direction the SA turns out to have.
  @Test func replayNumbers() throws {
    let probe = XFRMProbe()
    let error = add(probe) { builder in
      builder.attribute(.replayESNValue) { builder in
        for word in [1, 20, 10, 2, 1, 32, 0] as [UInt32] { builder.append(word) }
      }
    }
    #expect(error == 0)
    let id = SAIdentifier(spi: Self.spi, destination: Charon.b)
    for (isInbound, sequence) in [(false, 2 << 32 | 20), (true, 1 << 32 | 10)] as [(Bool, UInt64)] {
      probe.store.sas[id]?.sequence = sequence
      probe.store.sas[id]?.isInbound = isInbound
      let replay = try #require(given(.replayESNValue, probe))
      #expect(Array(replay[4..<20]) == [20, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0])
    }
  }

  /// The index of a policy that is replaced may be named.
  @Test func policyIndex() throws {
    let probe = XFRMProbe()
    #expect(netlinkError(probe.send(Charon.policy(.newPolicy, direction: 1)).first) == 0)
    let index = try #require(probe.store.policies().first).index
    for (asked, code) in [(index, 0), (index + 1, EOPNOTSUPP)] {
      let replies = probe.request(.updatePolicy) { builder in
        var info = XFRMPolicyInfo()
        (info.selector, info.direction, info.index) = (Charon.selector(1), 1, asked)
        info.encode(into: &builder)
      }
      #expect(netlinkError(replies.first) == code)
    }
  }

  /// NEWAE sets sequence numbers and nothing else.
  @Test(arguments: [XFRMAttributeType.replayThreshold, .timerThreshold, .lifetimeValue])
  func eventSettings(_ type: XFRMAttributeType) {
    let probe = XFRMProbe()
    #expect(add(probe) { _ in } == 0)
    let replies = probe.request(.newAE, flags: [.request, .acknowledge, .replace]) { builder in
      var event = XFRMAEventID()
      event.sa.destination = XFRMAddress(Charon.b)
      (event.sa.spi, event.sa.family, event.sa.ipProtocol) = (Self.spi, 2, 50)
      event.encode(into: &builder)
      builder.attribute(type) { $0.append(bytes: [UInt8](repeating: 1, count: type.minimumLength)) }
    }
    #expect(netlinkError(replies.first) == EOPNOTSUPP)
  }

  /// The daemon's own addresses go along with what it says of a move.
  @Test func migrationCarriesKMAddress() throws {
    let probe = XFRMProbe()
    probe.join(.migrate)
    _ = probe.send(Charon.newSA(0xc000_0001))
    _ = probe.send(Charon.policy(.newPolicy, direction: 1))
    let address = [UInt8](0..<40)
    let replies = probe.request(.migrate) { builder in
      Charon.appendMigration(&builder)
      builder.attribute(.kmAddress) { $0.append(bytes: address) }
    }
    #expect(netlinkError(replies.first) == 0)
    let notice = try #require(probe.notices.first { netlinkType($0) == XFRMMessageType.migrate.rawValue })
    #expect(attribute(.kmAddress, of: notice, after: XFRMPolicyID.length) == address)
  }

  private func add(
    _ probe: XFRMProbe, _ templates: [SATemplate], family: AddressFamily = .v4, direction: UInt8 = 1
  ) -> Int32? {
    let selector = Selector(source: .any(family), destination: .any(family))
    let replies = probe.request(.updatePolicy) { builder in
      var info = XFRMPolicyInfo()
      (info.selector, info.direction) = (XFRMSelector(selector), direction)
      info.encode(into: &builder)
      builder.attribute(.templates) { builder in
        for template in templates { XFRMTemplate(template, isOptional: false).encode(into: &builder) }
      }
    }
    return netlinkError(replies.first)
  }

  /// IPComp of charon and pluto with one family in the other: the ESP behind it has the family of its tunnel.
  @Test(arguments: [AddressFamily.v4, .v6])
  func familyOfTheTemplateBefore(_ inner: AddressFamily) {
    let probe = XFRMProbe()
    let outer: AddressFamily = inner == .v4 ? .v6 : .v4
    let ends: (IPAddress, IPAddress) = outer == .v4 ? (Charon.a, Charon.b) : ("2001:db8::1", "2001:db8::2")
    let tunnel = SATemplate(saProtocol: .ipcomp, source: ends.0, destination: ends.1)
    let transport = SATemplate(
      mode: .transport, source: .unspecified(outer), destination: .unspecified(outer), requestID: 1)
    let header = SATemplate(
      saProtocol: .ah, mode: .transport, source: .unspecified(outer), destination: .unspecified(outer))
    #expect(add(probe, [tunnel, transport, header], family: inner) == 0)
    #expect(probe.store.policies().first?.parameters.templates == [tunnel, transport, header])
    // Before the tunnel it is the policy's.
    #expect(add(probe, [transport, tunnel], family: inner) == EINVAL)
    var wrong = transport
    (wrong.source, wrong.destination) = (.unspecified(inner), .unspecified(inner))
    #expect(add(probe, [tunnel, wrong], family: inner) == EINVAL)
    #expect(add(probe, [wrong, tunnel], family: inner) == 0)
  }

  /// Bits of addresses behind the prefixes are given back, in listings and multicasts; they select nothing.
  @Test func hostBitsOfSelectors() throws {
    let probe = XFRMProbe()
    probe.join(.policy)
    var selector = XFRMSelector(Selector(source: "10.0.0.0/24", destination: "10.1.0.0/16"))
    selector.source = XFRMAddress("10.0.0.1")
    selector.destination = XFRMAddress("10.1.2.3")
    func request(_ type: XFRMMessageType) -> [[UInt8]] {
      probe.request(type) { builder in
        var info = XFRMPolicyInfo()
        (info.selector, info.direction) = (selector, 1)
        var id = XFRMPolicyID()
        (id.selector, id.direction) = (selector, 1)
        if type == .getPolicy { id.encode(into: &builder) } else { info.encode(into: &builder) }
      }
    }
    #expect(netlinkError(request(.newPolicy).first) == 0)
    func given(_ datagram: [UInt8]?) -> XFRMSelector? {
      datagram?.withUnsafeBytes { bytes in
        var cursor = ByteCursor(UnsafeRawBufferPointer(rebasing: bytes[16...]))
        return XFRMSelector(from: &cursor)
      }
    }
    #expect(given(probe.notices.first) == selector)
    #expect(given(request(.getPolicy).first) == selector)
    #expect(given(probe.request(.getPolicy, flags: [.request, .dump]) { _ in }.first) == selector)
    #expect(probe.store.policies().first?.parameters.selector.source == "10.0.0.0/24")
    selector.source = XFRMAddress("10.0.0.9")
    #expect(given(request(.getPolicy).first)?.source == XFRMAddress("10.0.0.1"))
    #expect(netlinkError(request(.newPolicy).first) == EEXIST)
    #expect(netlinkError(request(.updatePolicy).first) == 0)
    #expect(given(request(.getPolicy).first) == selector)
  }

  /// 20 bytes with its header: readers take off the aligned length of its fixed part.
  @Test func flushIsTold() {
    let probe = XFRMProbe()
    #expect(add(probe) { _ in } == 0)
    probe.join(.sa)
    probe.store.emit(.sasFlushed(.esp))
    #expect(probe.notices.last?.count == 20 && probe.notices.last?[0] == 20 && probe.notices.last?[16] == 50)
  }

  /// Joined without a refusal, though nothing is ever sent to it.
  @Test func reports() {
    let probe = XFRMProbe()
    probe.join(.report)
    #expect(probe.session.groups & XFRMGroup.report.bit != 0)
  }
}
