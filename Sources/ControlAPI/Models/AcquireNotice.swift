import IPsec

/// A packet needed an SA that is not there, as the API tells it: the fields of `AcquireRequest`.
public struct AcquireNotice: Codable, Sendable {
  public var sequence: UInt32
  public var policy: PolicyRecord
  /// The template that has no SA.
  public var template: SATemplate
  /// The packet that asked, as a host-to-host selector.
  public var packet: Selector

  public init(sequence: UInt32, policy: PolicyRecord, template: SATemplate, packet: Selector) {
    self.sequence = sequence
    self.policy = policy
    self.template = template
    self.packet = packet
  }

  public init(_ request: AcquireRequest) {
    self.init(
      sequence: request.sequence, policy: request.policy, template: request.template, packet: request.packet)
  }
}

extension AcquireRequest {
  public init(_ notice: AcquireNotice) {
    self.init(sequence: notice.sequence, policy: notice.policy, template: notice.template, packet: notice.packet)
  }
}
