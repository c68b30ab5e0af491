/// `POST /v1/ike`: what gwd does beside the key daemon.
public struct KeyDaemonRequest: Codable, Sendable, Hashable {
  public enum Action: String, Codable, Sendable, CaseIterable {
    /// The named rules, or all, are not asked for again by the gateway itself …
    case hold
    /// … and are from now on.
    case release
    /// IKE's messages go to a file in pcap format.
    case capture
    case endCapture = "end-capture"
    /// Certificates and keys are read again.
    case reread
  }
  public var action: Action
  /// Names of rules or of peers; nil: all.
  public var names: [String]?
  /// For `capture`, in place of `ike.pcap` in the run directory; for root only.
  public var path: String?

  public init(_ action: Action, names: [String]? = nil, path: String? = nil) {
    self.action = action
    self.names = names
    self.path = path
  }
}
