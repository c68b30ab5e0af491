import CLayout
import Wire

/// `forward` is Linux's third direction: packets that left a tunnel and go on; the gateway treats it with `in`.
public enum PolicyDirection: UInt8, Sendable, Hashable {
  case `in` = 0
  case out = 1
  case forward = 2
}

/// OpenBSD's flow types, with its PF_KEY numbers.
public enum PolicyType: UInt8, Sendable, Hashable, CaseIterable {
  case use = 1
  case acquire = 2
  case require = 3
  case bypass = 4
  case deny = 5
  case dontacq = 6
}

extension UnsafeMutablePointer where Pointee == gw_policy {
  /// What is none of them denies.
  @inlinable public var type: PolicyType { PolicyType(rawValue: pointee.type) ?? .deny }
}

/// One SA that a policy asks for (XFRM's template). Outermost last.
public struct SATemplate: Hashable, Sendable {
  public var saProtocol: SAProtocol
  public var mode: SAMode
  /// Tunnel end points; unspecified in transport mode or where the packet decides.
  public var source: IPAddress
  public var destination: IPAddress
  public var requestID: UInt32
  /// Not 0: this very SA.
  public var spi: UInt32
  /// An IPComp template need not be applied.
  public var isOptional: Bool

  public init(
    saProtocol: SAProtocol = .esp, mode: SAMode = .tunnel, source: IPAddress, destination: IPAddress,
    requestID: UInt32 = 0, spi: UInt32 = 0, isOptional: Bool = false
  ) {
    self.saProtocol = saProtocol
    self.mode = mode
    self.source = source
    self.destination = destination
    self.requestID = requestID
    self.spi = spi
    self.isOptional = isOptional
  }
}

/// Everything that is asked of a policy: what `ipsec.conf` flows, PF_KEY and XFRM fill in and what `show flow` prints.
public struct PolicyParameters: Hashable, Sendable {
  public var direction: PolicyDirection
  public var selector: Selector
  public var type: PolicyType
  /// Empty for bypass and deny. One for an `ipsec.conf` flow.
  public var templates: [SATemplate]
  /// Linux's numeric priority, lowest first; nil: most specific selector first (`ipsec.conf`, OpenBSD's PF_KEY).
  public var priority: UInt32?
  public var local: IPAddress?
  public var peer: IPAddress?
  public var sourceIdentity: Identity?
  public var destinationIdentity: Identity?
  public var mark: Mark?
  public var interfaceID: UInt32
  public var owner: Owner
  /// What ipsecctl prints first: the SA protocol of the flow.
  public var saProtocol: SAProtocol

  public init(
    direction: PolicyDirection, selector: Selector, type: PolicyType = .require, saProtocol: SAProtocol = .esp,
    templates: [SATemplate] = [], owner: Owner = .configuration
  ) {
    self.direction = direction
    self.selector = selector
    self.type = type
    self.saProtocol = saProtocol
    self.templates = templates
    self.owner = owner
    interfaceID = 0
  }

  /// Whether any packet can be for it: packets here come by no XFRM interface, and have a mark of 0.
  public var selectsPackets: Bool { interfaceID == 0 && (mark?.value ?? 0) == 0 }
}
