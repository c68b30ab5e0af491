import IPsec

extension RuleTransaction {
  /// The transaction as the gateway may be given it: its rules belong to `configuration`, whatever they say. Refused are
  /// counter modes: a static key would meet a nonce again after a restart (RFC 4106 2, RFC 3686 2.1).
  public func admitted() throws(ControlError) -> RuleTransaction {
    var admitted = self
    var failures: [LoadReport.Failure] = []
    for index in rules.indices {
      switch rules[index] {
      case .sa(var sa):
        sa.owner = .configuration
        admitted.rules[index] = .sa(sa)
        let encryption = sa.transform.encryption
        guard mode != .delete, encryption.isCounterMode || sa.transform.authentication == .aesGMAC else { continue }
        let name = encryption.isCounterMode ? encryption.apiName : "aes-gmac"
        failures.append(.init(rule: index, ControlError(.invalid, "\(name) is disallowed with static keys")))
      case .policy(var policy):
        policy.owner = .configuration
        admitted.rules[index] = .policy(policy)
      case .bundle: break
      }
    }
    guard failures.isEmpty else { throw ControlError(.invalid, failures[0].reason, failures: failures) }
    return admitted
  }
}
