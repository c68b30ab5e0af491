import IPsec
import Wire

/// What an XFRM client set on an SA beyond what the database keeps, so that GETSA gives back every attribute.
/// Control thread, kept by the service for as long as the SA stands.
struct XFRMSARemnant: Sendable {
  /// XFRM_SA_XFLAG_DONT_ENCAP_DSCP.
  static let noDSCP: UInt32 = 1
  /// And XFRM_SA_XFLAG_OSEQ_MAY_WRAP, which the gateway makes no use of: an SA stops before its numbers wrap.
  static let knownExtraFlags: UInt32 = 3

  var flags: XFRMSAInfo.Flags = []
  var extraFlags: UInt32 = 0
  var selector = XFRMSelector()
  /// The replay window came in REPLAY_ESN_VAL.
  var hasReplayESN = false
  /// ENCAP's original address.
  var originalAddress = XFRMAddress()
  /// Seconds between two MAPPING events at the least.
  var mappingThreshold: UInt32?
  var direction: UInt8?
  /// RFC 9611: which resource asked for this SA. Kept and given back; the workers share every SA.
  var cpu: UInt32?

  init() {}

  /// What an SA from elsewhere (ipsec.conf, PF_KEY) looks like.
  init(_ parameters: SAParameters) {
    if !parameters.ecn { flags.insert(.noECN) }
    if parameters.df == .clear { flags.insert(.noPMTUDiscovery) }
    if parameters.extendedSequenceNumbers { flags.insert(.esn) }
    if parameters.dscp == 0 { extraFlags = Self.noDSCP }
    if let own = parameters.selector {
      selector = XFRMSelector(own)
    } else if parameters.mode == .tunnel {
      flags.insert(.anyFamily)
    } else {
      selector.family = UInt16(parameters.destination.family.rawValue)
    }
    hasReplayESN = parameters.extendedSequenceNumbers || parameters.replayWindow > 32
  }
}
