import CLayout
import Wire

/// Whether a packet that came out of SAs satisfies the inbound policy it matches (RFC 4301 5.2, OpenBSD's
/// ipsp_spd_lookup).
public enum PolicyCheck {
  /// One SA: what nearly every packet comes through. Any worker.
  @inlinable @inline(__always)
  public static func policyAccepts(_ policy: UnsafeMutablePointer<gw_policy>, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool
  {
    if policy.pointee.templates != nil {
      var layer = sa
      return layersAccepted(policy, &layer, count: 1)
    }
    if policy.pointee.template_count == 0 { return true }
    return protocolAccepts(policy.pointee.sa_protocol, policy.pointee.mode, policy.pointee.request_id, sa)
      && endpointsAccept(
        peer: (policy.pointee.peer_high, policy.pointee.peer_low),
        local: (policy.pointee.local_high, policy.pointee.local_low), sa)
      && identitiesAccept(policy, sa)
  }

  /// Several SAs, in the order in which they were taken off: the outermost first.
  @inlinable @inline(__always)
  public static func policyAccepts(
    _ policy: UnsafeMutablePointer<gw_policy>, _ layers: UnsafePointer<UnsafeMutablePointer<gw_sa>>, count: Int
  ) -> Bool {
    if count == 1 { return policyAccepts(policy, layers[0]) }
    return layersAccepted(policy, layers, count: count)
  }

  /// No SA at all: only where every layer is optional (IPComp alone, of a packet that did not shrink).
  public static func policyAcceptsClear(_ policy: UnsafeMutablePointer<gw_policy>) -> Bool {
    guard let templates = policy.pointee.templates else { return false }
    var position = 0
    while position < Int(policy.pointee.template_count) {
      if templates[position].is_optional == 0 { return false }
      position &+= 1
    }
    return true
  }

  /// Each template, outermost first, must be met by a layer, in order. An optional one (IPComp that did not compress)
  /// may be missing; layers in excess are allowed in transport mode (an OpenBSD bundle has only one flow), not as
  /// tunnels.
  @usableFromInline
  static func layersAccepted(
    _ policy: UnsafeMutablePointer<gw_policy>, _ layers: UnsafePointer<UnsafeMutablePointer<gw_sa>>, count: Int
  ) -> Bool {
    var layer = 0
    var identified = policy.pointee.identities == 0
    var position = Int(policy.pointee.template_count)
    while position > 0 {
      position &-= 1
      let template = template(policy, position)
      var found = layer
      while found < count, !accepts(template, layers[found]), isTransport(layers[found]) { found &+= 1 }
      if found < count, accepts(template, layers[found]) {
        identified = identified || identitiesAccept(policy, layers[found])
        layer = found &+ 1
      } else if template.is_optional == 0 {
        return false
      }
    }
    while layer < count {
      if !isTransport(layers[layer]) { return false }
      layer &+= 1
    }
    return identified
  }

  private static func template(_ policy: UnsafeMutablePointer<gw_policy>, _ position: Int) -> gw_template {
    if let templates = policy.pointee.templates { return templates[position] }
    return gw_template(
      peer_high: policy.pointee.peer_high, peer_low: policy.pointee.peer_low, local_high: policy.pointee.local_high,
      local_low: policy.pointee.local_low, request_id: policy.pointee.request_id,
      sa_protocol: policy.pointee.sa_protocol, mode: policy.pointee.mode, is_optional: 0, reserved: 0)
  }

  private static func accepts(_ template: gw_template, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    protocolAccepts(template.sa_protocol, template.mode, template.request_id, sa)
      && endpointsAccept(
        peer: (template.peer_high, template.peer_low), local: (template.local_high, template.local_low), sa)
  }

  private static func isTransport(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    sa.pointee.flags & GW_SA_TUNNEL.rawValue == 0
  }

  @inlinable @inline(__always)
  static func protocolAccepts(
    _ saProtocol: UInt8, _ mode: UInt8, _ requestID: UInt32, _ sa: UnsafeMutablePointer<gw_sa>
  ) -> Bool {
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    if sa.pointee.sa_protocol != saProtocol { return isUncompressed(saProtocol, mode, sa) }
    return (mode == 2 || (mode == 1) == isTunnel) && (requestID == 0 || requestID == sa.pointee.request_id)
  }

  /// What an IPComp tunnel's sender did not compress is IP in IP (RFC 3173 2.2): an IPIP SA of the same ends may have
  /// taken it off.
  @inlinable
  static func isUncompressed(_ saProtocol: UInt8, _ mode: UInt8, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    saProtocol == IPProtocol.ipcomp && mode != 0 && sa.pointee.sa_protocol == IPProtocol.ipip
  }

  @inlinable @inline(__always)
  static func endpointsAccept(
    peer: (UInt64, UInt64), local: (UInt64, UInt64), _ sa: UnsafeMutablePointer<gw_sa>
  ) -> Bool {
    let anyPeer = peer.0 | peer.1 == 0
    let anyLocal = local.0 | local.1 == 0
    return (anyPeer || peer.0 == sa.pointee.source_high && peer.1 == sa.pointee.source_low)
      && (anyLocal || local.0 == sa.pointee.destination_high && local.1 == sa.pointee.destination_low)
  }

  @inlinable @inline(__always)
  static func identitiesAccept(
    _ policy: UnsafeMutablePointer<gw_policy>, _ sa: UnsafeMutablePointer<gw_sa>
  ) -> Bool {
    policy.pointee.identities == 0 || policy.pointee.identities == sa.pointee.identities
  }
}
