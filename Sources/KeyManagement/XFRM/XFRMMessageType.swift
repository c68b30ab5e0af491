/// The messages of NETLINK_XFRM (linux/xfrm.h).
public enum XFRMMessageType: UInt16, Sendable, CaseIterable {
  case newSA = 0x10
  case deleteSA, getSA, newPolicy, deletePolicy, getPolicy, allocateSPI, acquire, expire, updatePolicy, updateSA
  case policyExpire, flushSAs, flushPolicies, newAE, getAE, report, migrate, newSADInfo, getSADInfo, newSPDInfo
  case getSPDInfo, mapping, setDefault, getDefault

  /// Bytes of the fixed part that a request of this type begins with; the attributes follow it, aligned to 4.
  var headerLength: Int {
    switch self {
    case .newSA, .updateSA: XFRMSAInfo.length
    case .deleteSA, .getSA: XFRMSAID.length
    case .newPolicy, .updatePolicy: XFRMPolicyInfo.length
    case .deletePolicy, .getPolicy, .migrate: XFRMPolicyID.length
    case .allocateSPI: XFRMSAInfo.length + 8
    case .acquire: 280
    case .expire: XFRMSAInfo.length + 8
    case .policyExpire: XFRMPolicyInfo.length + 8
    case .flushSAs: 1
    case .flushPolicies: 0
    case .newAE, .getAE: XFRMAEventID.length
    case .newSADInfo, .getSADInfo, .newSPDInfo, .getSPDInfo: 4
    case .report: 60
    case .mapping: 64
    case .setDefault, .getDefault: 3
    }
  }
}

/// The multicast groups of NETLINK_XFRM (linux/xfrm.h).
public enum XFRMGroup: UInt32, Sendable {
  case acquire = 1
  case expire, sa, policy, aevents, report, migrate, mapping

  /// Its bit in `nl_groups`.
  var bit: UInt32 { 1 << (rawValue - 1) }
}

/// The attributes of NETLINK_XFRM (linux/xfrm.h; the last ones are newer than Debian 12's header).
public enum XFRMAttributeType: UInt16, Sendable, CaseIterable {
  case authentication = 1
  case encryption, compression, encapsulation, templates, sa, policy, securityContext, lifetimeValue, replayValue
  case replayThreshold, timerThreshold, sourceAddress, careOfAddress, lastUsed, policyType, migrate, aead, kmAddress
  case authenticationTruncated, mark, tfcPadding, replayESNValue, extraFlags, `protocol`, addressFilter, pad
  case offloadDevice, setMark, setMarkMask, interfaceID, mappingThreshold, direction, natKeepalive, cpu

  /// The least that its payload may be; shorter ones refuse the message.
  var minimumLength: Int {
    switch self {
    case .authentication, .encryption, .compression: 68
    case .aead, .authenticationTruncated: 72
    case .encapsulation: 24
    case .templates: XFRMTemplate.length
    case .sa: XFRMSAInfo.length
    case .policy: XFRMPolicyInfo.length
    case .securityContext: 8
    case .lifetimeValue: 32
    case .replayValue: 12
    case .replayThreshold, .timerThreshold: 4
    case .sourceAddress, .careOfAddress: 16
    case .lastUsed: 8
    case .policyType: 6
    case .migrate: XFRMMigration.length
    case .kmAddress: 40
    case .mark: 8
    case .replayESNValue: XFRMReplayESN.length
    case .protocol, .direction: 1
    case .addressFilter: 36
    case .pad: 0
    case .offloadDevice: 8
    case .tfcPadding, .extraFlags, .setMark, .setMarkMask, .interfaceID, .mappingThreshold, .natKeepalive, .cpu: 4
    }
  }
}
