import CLinux
import IPsec
import Testing

@testable import KeyManagement

/// Every structure is as long as the kernel's header says, and every number is the header's.
struct XFRMLayoutTests {
  private func length(_ encode: (inout ByteBuilder) -> Void) -> Int {
    var builder = ByteBuilder()
    encode(&builder)
    return builder.count
  }

  @Test func lengths() {
    #expect(length { XFRMSelector().encode(into: &$0) } == MemoryLayout<xfrm_selector>.size)
    #expect(length { XFRMSAInfo().encode(into: &$0) } == MemoryLayout<xfrm_usersa_info>.size)
    #expect(length { XFRMSAID().encode(into: &$0) } == MemoryLayout<xfrm_usersa_id>.size)
    #expect(length { XFRMAEventID().encode(into: &$0) } == MemoryLayout<xfrm_aevent_id>.size)
    #expect(length { XFRMPolicyInfo().encode(into: &$0) } == MemoryLayout<xfrm_userpolicy_info>.size)
    #expect(length { XFRMPolicyID().encode(into: &$0) } == MemoryLayout<xfrm_userpolicy_id>.size)
    #expect(length { XFRMTemplate().encode(into: &$0) } == MemoryLayout<xfrm_user_tmpl>.size)
    #expect(length { XFRMMigration().encode(into: &$0) } == MemoryLayout<xfrm_user_migrate>.size)
    #expect(length { XFRMLimits().encode(into: &$0) } == MemoryLayout<xfrm_lifetime_cfg>.size)
    #expect(length { XFRMUsage().encode(into: &$0) } == MemoryLayout<xfrm_lifetime_cur>.size)
    #expect(XFRMMessageType.allocateSPI.headerLength == MemoryLayout<xfrm_userspi_info>.size)
    #expect(XFRMMessageType.acquire.headerLength == MemoryLayout<xfrm_user_acquire>.size)
    #expect(XFRMMessageType.expire.headerLength == MemoryLayout<xfrm_user_expire>.size)
    #expect(XFRMMessageType.policyExpire.headerLength == MemoryLayout<xfrm_user_polexpire>.size)
    #expect(XFRMMessageType.mapping.headerLength == MemoryLayout<xfrm_user_mapping>.size)
    #expect(XFRMMessageType.setDefault.headerLength == MemoryLayout<xfrm_userpolicy_default>.size)
  }

  /// The C structure's fields stand where the codec puts them.
  @Test func fields() {
    var info = XFRMSAInfo()
    info.spi = 0xc0ff_ee01
    info.requestID = 77
    info.mode = 1
    info.flags = [.esn]
    info.limits.hardUse = 9
    info.usage.used = 11
    info.integrityDrops = 12
    var builder = ByteBuilder()
    info.encode(into: &builder)
    let c = builder.bytes.withUnsafeBytes { $0.loadUnaligned(as: xfrm_usersa_info.self) }
    #expect(c.id.spi == UInt32(0xc0ff_ee01).bigEndian && c.reqid == 77 && c.mode == 1 && c.flags == 128)
    #expect(c.lft.hard_use_expires_seconds == 9 && c.curlft.use_time == 11 && c.stats.integrity_failed == 12)

    var policy = XFRMPolicyInfo()
    (policy.priority, policy.index, policy.direction, policy.action) = (1, 2, 1, 1)
    builder = ByteBuilder()
    policy.encode(into: &builder)
    let p = builder.bytes.withUnsafeBytes { $0.loadUnaligned(as: xfrm_userpolicy_info.self) }
    #expect(p.priority == 1 && p.index == 2 && p.dir == 1 && p.action == 1)

    var template = XFRMTemplate()
    (template.spi, template.requestID, template.mode, template.optional) = (3, 4, 1, 1)
    builder = ByteBuilder()
    template.encode(into: &builder)
    let t = builder.bytes.withUnsafeBytes { $0.loadUnaligned(as: xfrm_user_tmpl.self) }
    #expect(t.id.spi == UInt32(3).bigEndian && t.reqid == 4 && t.mode == 1 && t.optional == 1 && t.ealgos == .max)
  }

  @Test func numbers() {
    let messages: [(XFRMMessageType, Int)] = [
      (.newSA, XFRM_MSG_NEWSA), (.getSA, XFRM_MSG_GETSA), (.allocateSPI, XFRM_MSG_ALLOCSPI),
      (.updateSA, XFRM_MSG_UPDSA), (.flushPolicies, XFRM_MSG_FLUSHPOLICY), (.getAE, XFRM_MSG_GETAE),
      (.migrate, XFRM_MSG_MIGRATE), (.getSPDInfo, XFRM_MSG_GETSPDINFO), (.mapping, XFRM_MSG_MAPPING),
      (.getDefault, XFRM_MSG_GETDEFAULT),
    ]
    for (type, number) in messages { #expect(Int(type.rawValue) == number) }
    let attributes: [(XFRMAttributeType, xfrm_attr_type_t)] = [
      (.authentication, XFRMA_ALG_AUTH), (.templates, XFRMA_TMPL), (.lastUsed, XFRMA_LASTUSED),
      (.policyType, XFRMA_POLICY_TYPE), (.aead, XFRMA_ALG_AEAD), (.authenticationTruncated, XFRMA_ALG_AUTH_TRUNC),
      (.mark, XFRMA_MARK), (.replayESNValue, XFRMA_REPLAY_ESN_VAL), (.extraFlags, XFRMA_SA_EXTRA_FLAGS),
      (.offloadDevice, XFRMA_OFFLOAD_DEV), (.setMark, XFRMA_SET_MARK), (.interfaceID, XFRMA_IF_ID),
      (.mappingThreshold, XFRMA_MTIMER_THRESH),
    ]
    for (type, number) in attributes { #expect(UInt32(type.rawValue) == number.rawValue) }
    #expect(XFRMAttributeType.direction.rawValue == 33 && XFRMAttributeType.cpu.rawValue == 35)
    #expect(Int(XFRMGroup.mapping.rawValue) == Int(XFRMNLGRP_MAPPING.rawValue))
  }

  @Test func portMasks() throws {
    for range in [0...65535, 443...443, 1024...2047, 0...1] as [ClosedRange<UInt16>] {
      let selector = Selector(
        source: "10.0.0.0/8", destination: "10.1.0.0/16", ipProtocol: 6, destinationPorts: range)
      #expect(try XFRMSelector(selector).selector(default: 0) == selector)
    }
  }
}
