/// The stages of a burst, for the cycles that `gwctl show workers` and `Perf` print.
public enum Stage: Int, CaseIterable, Sendable {
  case receive, inbound, policy, outbound, crypto, transmit

  public var name: String { "\(self)" }
}
