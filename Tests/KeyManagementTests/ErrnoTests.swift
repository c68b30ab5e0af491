import Glibc
import Testing
import Wire

@testable import IPsec
@testable import KeyManagement

/// What each message is refused with, and that nothing changed.
struct ErrnoTests {
  struct Case: Sendable, CustomStringConvertible {
    var what: String
    var code: Int32
    var message: [UInt8]
    var description: String { what }

    init(_ what: String, _ code: Int32, _ message: [UInt8]) {
      self.what = what
      self.code = code
      self.message = message
    }
  }

  private typealias Write = (inout ByteBuilder) -> Void

  private static func sa(
    _ type: XFRMMessageType = .newSA, gcm: Bool = true, set: (inout XFRMSAInfo) -> Void = { _ in },
    with attributes: Write = { _ in }
  ) -> [UInt8] {
    XFRMProbe.message(type) { builder in
      var info = Charon.info(0xc000_0009, from: Charon.a, to: Charon.b, soft: (0, 0))
      set(&info)
      info.encode(into: &builder)
      if gcm { Charon.appendGCM(&builder, seed: 1, window: 32) }
      attributes(&builder)
    }
  }

  private static func noESN(_ info: inout XFRMSAInfo) { info.flags = [.anyFamily] }

  /// Another protocol, without ESN.
  private static func plain(_ ipProtocol: UInt8, spi: UInt32 = 0xc000_0009) -> (inout XFRMSAInfo) -> Void {
    { info in
      noESN(&info)
      (info.ipProtocol, info.spi) = (ipProtocol, spi)
    }
  }

  private static func attribute(_ type: XFRMAttributeType, _ payload: [UInt8]) -> Write {
    { builder in builder.attribute(type) { $0.append(bytes: payload) } }
  }

  private static func algorithm(
    _ type: XFRMAttributeType, _ name: String, _ bits: UInt32, _ icv: UInt32? = nil
  ) -> Write {
    { builder in
      builder.attribute(type) { builder in
        builder.append(name, size: 64)
        builder.append(bits)
        if let icv { builder.append(icv) }
        builder.zeros(Int(bits / 8))
      }
    }
  }

  private static func cbc(_ builder: inout ByteBuilder) {
    algorithm(.encryption, "cbc(aes)", 128)(&builder)
    algorithm(.authenticationTruncated, "hmac(sha256)", 256, 128)(&builder)
  }

  private static func policy(
    set: (inout XFRMPolicyInfo) -> Void = { _ in }, with attributes: Write = { _ in }
  ) -> [UInt8] {
    XFRMProbe.message(.newPolicy) { builder in
      var info = XFRMPolicyInfo()
      info.selector = Charon.selector(1)
      info.direction = 1
      set(&info)
      info.encode(into: &builder)
      attributes(&builder)
    }
  }

  private static func template(_ change: (inout XFRMTemplate) -> Void) -> Write {
    var template = XFRMTemplate(SATemplate(source: Charon.a, destination: Charon.b), isOptional: false)
    change(&template)
    return { builder in builder.attribute(.templates) { template.encode(into: &$0) } }
  }

  private static let filler = [UInt8](repeating: 0, count: 24)

  static let xfrmCases: [Case] = messages + sas + algorithms + attributes + policies

  private static let messages: [Case] = [
    Case("unknown message", EINVAL, changed(Charon.newSA(1)) { $0[4] = 0x40 }),
    Case("message only for users", EINVAL, XFRMProbe.message(.mapping) { $0.zeros(64) }),
    Case("report from a user", EINVAL, XFRMProbe.message(.report) { $0.zeros(60) }),
    Case("policy's end from a user", EOPNOTSUPP, XFRMProbe.message(.policyExpire) { $0.zeros(176) }),
    Case("acquire from a user", EOPNOTSUPP, XFRMProbe.message(.acquire) { $0.zeros(280) }),
    Case("short header", EINVAL, XFRMProbe.message(.newSA) { $0.zeros(100) }),
    Case("update of nothing", ESRCH, sa(.updateSA)),
    Case("get of nothing", ESRCH, Charon.id(.getSA, 5, to: Charon.a)),
    Case("delete of nothing", ESRCH, Charon.id(.deleteSA, 5, to: Charon.a)),
    Case("flush of UDP", EINVAL, XFRMProbe.message(.flushSAs) { $0.append(UInt8(17)) }),
    Case("default block", EOPNOTSUPP, XFRMProbe.message(.setDefault) { $0.append(bytes: [1, 2, 2, 0]) }),
    Case("migrate nothing", EINVAL, XFRMProbe.message(.migrate) { XFRMPolicyID().encode(into: &$0) }),
    Case(
      "SPI range", EINVAL,
      XFRMProbe.message(.allocateSPI) { builder in
        Charon.info(0, from: Charon.a, to: Charon.b, soft: (0, 0)).encode(into: &builder)
        builder.append(UInt32(500))
        builder.append(UInt32(400))
      }),
    Case(
      "hash threshold", EINVAL,
      XFRMProbe.message(.newSPDInfo) { builder in
        builder.append(UInt32(0))
        builder.attribute(3) { $0.append(bytes: [33, 0]) }
      }),
  ]

  private static let sas: [Case] = [
    Case("family", EINVAL, sa(set: { $0.family = 99 })),
    Case("protocol", EINVAL, sa(set: { $0.ipProtocol = 17 })),
    Case("mode", EINVAL, sa(set: { $0.mode = 9 })),
    Case("mode beet", EPROTONOSUPPORT, sa(set: { $0.mode = 4 })),
    Case("mode IP-TFS", EPROTONOSUPPORT, sa(set: { $0.mode = 5 })),
    Case("SPI 0", EINVAL, sa(set: { $0.spi = 0 })),
    Case("selector prefix", EINVAL, sa(set: { ($0.selector.family, $0.selector.sourcePrefix) = (2, 33) })),
    Case("selector by interface", EOPNOTSUPP, sa(set: { $0.selector.interface = 3 })),
    Case("ESN with a legacy window", EINVAL, sa(set: { $0.replayWindow = 32 })),
    Case("ESN without its attribute", EINVAL, sa(gcm: false, with: algorithm(.aead, "rfc4106(gcm(aes))", 160, 128))),
  ]

  private static let algorithms: [Case] = [
    Case("none", EINVAL, sa(gcm: false, set: noESN)),
    Case("AEAD with auth", EINVAL, sa(set: noESN, with: algorithm(.authentication, "hmac(sha1)", 160))),
    Case("AEAD not known", ENOSYS, sa(gcm: false, set: noESN, with: algorithm(.aead, "gcm(sm4)", 160, 128))),
    Case("AEAD ICV", ENOSYS, sa(gcm: false, set: noESN, with: algorithm(.aead, "rfc4106(gcm(aes))", 160, 32))),
    Case("AEAD key", EINVAL, sa(gcm: false, set: noESN, with: algorithm(.aead, "rfc4106(gcm(aes))", 128, 128))),
    Case("cipher not known", ENOSYS, sa(gcm: false, set: noESN, with: algorithm(.encryption, "cbc(twofish)", 128))),
    Case("cipher key", EINVAL, sa(gcm: false, set: noESN, with: algorithm(.encryption, "cbc(aes)", 136))),
    Case(
      "key longer than its attribute", EINVAL,
      sa(
        gcm: false, set: noESN,
        with: { builder in
          builder.attribute(.encryption) { builder in
            builder.append("cbc(aes)", size: 64)
            builder.append(UInt32(256))
            builder.zeros(16)
          }
        })),
    Case("AH without auth", EINVAL, sa(gcm: false, set: plain(51))),
    Case("AH with AEAD", EINVAL, sa(set: { $0.ipProtocol = 51 })),
    Case("weak MD5", ENOSYS, sa(gcm: false, set: plain(51), with: algorithm(.authentication, "hmac(md5)", 128))),
    Case(
      "SHA-256 with the kernel's 96 bits", ENOSYS,
      sa(gcm: false, set: plain(51), with: algorithm(.authentication, "hmac(sha256)", 256))),
    Case("IPComp CPI", EINVAL, sa(gcm: false, set: plain(108), with: algorithm(.compression, "deflate", 0))),
    Case(
      "IPComp lzs", ENOSYS,
      sa(gcm: false, set: plain(108, spi: 300), with: algorithm(.compression, "lzs", 0))),
  ]

  private static let attributes: [Case] = [
    Case("short", ERANGE, sa(with: attribute(.mark, [0, 0, 0, 0]))),
    Case("TCP encapsulation", EINVAL, sa(with: attribute(.encapsulation, [7] + filler.dropFirst()))),
    Case("packet offload", EINVAL, sa(with: attribute(.offloadDevice, [0, 0, 0, 0, 4, 0, 0, 0]))),
    Case("TFC in transport mode", EINVAL, sa(set: { $0.mode = 0 }, with: attribute(.tfcPadding, [1, 0, 0, 0]))),
    Case("MTIMER without encapsulation", EINVAL, sa(with: attribute(.mappingThreshold, [1, 0, 0, 0]))),
    Case("direction", EINVAL, sa(with: attribute(.direction, [3]))),
    Case("security context", EOPNOTSUPP, sa(with: attribute(.securityContext, [UInt8](filler[..<8])))),
    Case("NAT keepalive", EOPNOTSUPP, sa(with: attribute(.natKeepalive, [20, 0, 0, 0]))),
    Case("care-of address", EOPNOTSUPP, sa(with: attribute(.careOfAddress, [UInt8](filler[..<16])))),
    Case("output mark", EOPNOTSUPP, sa(with: attribute(.setMark, [6, 0, 0, 0]))),
    Case("replay threshold", EOPNOTSUPP, sa(with: attribute(.replayThreshold, [6, 0, 0, 0]))),
    Case("event timer", EOPNOTSUPP, sa(with: attribute(.timerThreshold, [6, 0, 0, 0]))),
    Case("extra flag not known", EOPNOTSUPP, sa(with: attribute(.extraFlags, [4, 0, 0, 0]))),
    Case("DSCP decapsulated", EOPNOTSUPP, sa(set: { $0.flags.insert(.decapsulateDSCP) })),
    Case("wildcard", EOPNOTSUPP, sa(set: { $0.flags.insert(.wildcard) })),
    Case("ICMP", EOPNOTSUPP, sa(set: { $0.flags.insert(.icmp) })),
    Case(
      "MTIMER of an output SA", EINVAL,
      sa(
        gcm: false, set: noESN,
        with: { builder in
          cbc(&builder)
          builder.attribute(.direction) { $0.append(UInt8(2)) }
          builder.attribute(.encapsulation) { $0.append(bytes: [2, 0] + filler.dropFirst(2)) }
          builder.attribute(.mappingThreshold) { $0.append(UInt32(60)) }
        })),
    Case("window of an output SA", EINVAL, sa(with: attribute(.direction, [2]))),
    Case(
      "legacy window of an output SA", EINVAL,
      sa(
        gcm: false, set: { ($0.flags, $0.replayWindow) = ([.anyFamily], 32) },
        with: { builder in
          cbc(&builder)
          builder.attribute(.direction) { $0.append(UInt8(2)) }
        })),
    Case(
      "no path MTU of an input SA", EINVAL,
      sa(set: { $0.flags.insert(.noPMTUDiscovery) }, with: attribute(.direction, [1]))),
    Case(
      "extra flags of an input SA", EINVAL,
      sa(with: { builder in
        builder.attribute(.direction) { $0.append(UInt8(1)) }
        builder.attribute(.extraFlags) { $0.append(UInt32(1)) }
      })),
    Case(
      "TFC of an input SA", EINVAL,
      sa(with: { builder in
        builder.attribute(.direction) { $0.append(UInt8(1)) }
        builder.attribute(.tfcPadding) { $0.append(UInt32(100)) }
      })),
  ]

  private static let policies: [Case] = [
    Case("policy direction", EINVAL, policy(set: { $0.direction = 3 })),
    Case("policy action", EINVAL, policy(set: { $0.action = 2 })),
    Case("policy family", EINVAL, policy(set: { $0.selector.family = 0 })),
    Case("policy prefix", EINVAL, policy(set: { $0.selector.destinationPrefix = 33 })),
    Case("policy index", EOPNOTSUPP, policy(set: { $0.index = 17 })),
    Case("policy for ICMP errors", EOPNOTSUPP, policy(set: { $0.flags = 2 })),
    Case("policy with ACQUIREs by CPU", EOPNOTSUPP, policy(set: { $0.flags = 4 })),
    Case("policy offload", EINVAL, policy(with: attribute(.offloadDevice, [0, 0, 0, 0, 4, 0, 0, 0]))),
    Case(
      "GRE key", EOPNOTSUPP,
      policy(set: { ($0.selector.ipProtocol, $0.selector.destinationPortMask) = (47, 0xffff) })),
    Case("policy lifetime", EOPNOTSUPP, policy(set: { $0.limits.hardAdd = 60 })),
    Case(
      "port mask with a hole", EOPNOTSUPP,
      policy(set: { ($0.selector.sourcePort, $0.selector.sourcePortMask) = (1, 0xf0ff) })),
    Case("sub-policy", EOPNOTSUPP, policy(with: attribute(.policyType, [1, 0, 0, 0, 0, 0]))),
    Case("template protocol", EINVAL, policy(with: template { $0.ipProtocol = 6 })),
    Case("template family", EINVAL, policy(with: template { ($0.mode, $0.family) = (0, 10) })),
    Case(
      "too many templates", EINVAL,
      policy(with: { builder in
        builder.attribute(.templates) { $0.zeros(7 * XFRMTemplate.length) }
      })),
    Case("policy get of nothing", ENOENT, Charon.policyID(.getPolicy, direction: 1)),
    Case("policy delete of nothing", ENOENT, Charon.policyID(.deletePolicy, direction: 1)),
  ]

  @Test(arguments: xfrmCases) func xfrm(_ one: Case) {
    let probe = XFRMProbe()
    #expect(probe.send(one.message).map(netlinkError) == [one.code])
    #expect(probe.store.sas.isEmpty && probe.store.entries.isEmpty)
  }

  /// Where tools print no words of their own, the acknowledgement has some.
  @Test(arguments: xfrmCases.filter { ![EEXIST, ESRCH, ENOENT].contains($0.code) })
  func saysWhy(_ one: Case) throws {
    let probe = XFRMProbe()
    probe.join(options: [.extendedAcknowledgements, .cappedAcknowledgements])
    let reply = try #require(probe.send(one.message).first)
    // Header, error, the request's header, then NLMSGERR_ATTR_MSG: length, type 1, text, 0.
    #expect(reply.count > 16 + 4 + 16 + 4 + 10 && Array(reply[38..<40]) == [1, 0], "\(one)")
  }

  private static func changed(_ message: [UInt8], _ change: (inout [UInt8]) -> Void) -> [UInt8] {
    var message = message
    change(&message)
    return message
  }

  private static let add = Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b)
  private static let spd = Iked.policy(.policyAdd, direction: 2)

  static let pfkeyCases: [Case] = [
    Case("version", EINVAL, changed(add) { $0[0] = 1 }),
    Case("type 0", EINVAL, changed(add) { $0[1] = 0 }),
    Case("type unknown", EINVAL, changed(add) { $0[1] = 25 }),
    Case("reserved", EINVAL, changed(add) { $0[6] = 1 }),
    Case("length", EMSGSIZE, changed(add) { $0[4] -= 1 }),
    Case("shorter than its header", EMSGSIZE, [2, 3, 0, 3, 1, 0]),
    Case("SA type", EINVAL, changed(add) { $0[3] = 5 }),
    Case(
      "extension twice", EINVAL,
      changed(add) { message in
        message += message[16..<32]
        message[4] += 2
      }),
    Case(
      "extension for another message", EINVAL,
      changed(add) { message in
        message += [2, 0, 16, 0, 0, 1, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]
        message[4] += 2
      }),
    Case(
      "no SA", EINVAL,
      changed(add) { message in
        message.removeSubrange(16..<32)
        message[4] -= 2
      }),
    Case("SPI 0", EINVAL, changed(add) { for index in 20..<24 { $0[index] = 0 } }),
    Case("dead SA", EINVAL, changed(add) { $0[25] = 3 }),
    Case("cipher unknown", ENOSYS, changed(add) { $0[27] = 7 }),
    Case("no cipher", EINVAL, changed(add) { $0[27] = 0 }),
    Case("weak MD5", ENOSYS, changed(add) { $0[26] = 2 }),
    Case("key of another algorithm", EINVAL, changed(add) { $0[26] = 5 }),
    Case(
      "soft without hard", EINVAL,
      changed(add) { message in
        message.removeSubrange(128..<160)
        message[4] -= 4
      }),
    Case(
      "families differ", EINVAL,
      PFKeyProbe.message(.getSPI) { builder in
        Iked.append(.source, "10.9.0.1", to: &builder)
        Iked.append(.destination, "2001:db8::1", to: &builder)
      }),
    Case("update of nothing", ESRCH, Iked.sa(.update, 0x1001, from: Iked.a, to: Iked.b)),
    Case("get of nothing", ESRCH, Iked.named(.get, 0x1001, from: Iked.a, to: Iked.b)),
    Case("delete of nothing", ESRCH, Iked.named(.delete, 0x1001, from: Iked.a, to: Iked.b)),
    Case("register", EINVAL, changed(PFKeyProbe.message(.register)) { $0[3] = 4 }),
    Case("dump of nothing", ENOENT, PFKeyProbe.message(.dump, nil)),
    Case("migrate", EOPNOTSUPP, PFKeyProbe.message(.migrate, nil)),
    Case("policy type", EINVAL, changed(spd) { $0[84] = 4 }),
    Case("policy direction", EINVAL, changed(spd) { $0[86] = 4 }),
    Case("request length", EINVAL, changed(spd) { $0[96] = 4 }),
    Case("request protocol", EINVAL, changed(spd) { $0[98] = 6 }),
    Case("request mode", EINVAL, changed(spd) { $0[100] = 0 }),
    Case("request level", EINVAL, changed(spd) { $0[101] = 9 }),
    Case("request end points", EINVAL, changed(spd) { $0[112] = 7 }),
    Case("policy prefix", EINVAL, changed(spd) { $0[37] = 33 }),
    Case("policy delete of nothing", ENOENT, Iked.policy(.policyDelete, direction: 1)),
  ]

  @Test(arguments: pfkeyCases) func pfkey(_ one: Case) {
    let probe = PFKeyProbe()
    let replies = probe.send(one.message)
    #expect(replies.map { Int32($0[2]) } == [one.code] && replies.first?.count == 16)
    #expect(probe.store.sas.isEmpty && probe.store.entries.isEmpty)
  }

  @Test func registeredTwice() {
    let probe = PFKeyProbe()
    _ = probe.request(.register, .esp)
    #expect(probe.request(.register, .esp).first.map { Int32($0[2]) } == EEXIST)
    #expect(probe.send(Self.add).first?[2] == 0)
    #expect(probe.send(Self.add).first.map { Int32($0[2]) } == EEXIST)
  }
}
