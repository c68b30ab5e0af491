/// How many packets were dropped for one reason, summed over workers, since start.
public struct DropCount: Codable, Sendable, Hashable {
  /// A short name with underscores: `bad_icv`, `replayed`, `no_route` …
  public var reason: String
  /// The stage that dropped it: `parse`, `sad_lookup`, `inbound_policy` …
  public var stage: String
  public var packets: UInt64
  /// One sentence for the operator.
  public var explanation: String?

  public init(reason: String, stage: String, packets: UInt64, explanation: String? = nil) {
    self.reason = reason
    self.stage = stage
    self.packets = packets
    self.explanation = explanation
  }
}
