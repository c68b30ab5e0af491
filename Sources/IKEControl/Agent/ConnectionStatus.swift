import ConfigurationFiles
import Foundation

/// What has become of an `ike` rule.
public struct IKEConnectionStatus: Codable, Sendable, Hashable {
  public enum State: String, Codable, Sendable {
    /// No key daemon answers yet; it is tried again and again.
    case waiting
    /// The daemon has it; whether its tunnel is up is not known.
    case loaded
    /// It has SAs.
    case up
    /// The daemon is asking the peer.
    case connecting
    /// It has none: `reason` says why, as far as that is known.
    case down
    /// The daemon, or the gateway, refused: see `reason`.
    case failed
  }
  public var name: String
  public var peer: String
  public var file: String
  public var line: Int
  public var state: State
  /// `passive`, `active`, `dynamic`.
  public var mode: String
  /// Taken down by the operator: not asked for again until `connect`.
  public var held: Bool
  public var reason: String?
  /// Seconds since the epoch; nil: not known.
  public var upSince: Double?
  /// Until gwd asks the daemon for it again; nil: it does not.
  public var nextTrySeconds: UInt64?

  public init(_ connection: IKEConnection, _ state: State, reason: String? = nil, held: Bool = false) {
    name = connection.name
    peer = connection.peerName
    file = connection.file
    line = connection.line
    mode = "\(connection.mode)"
    self.state = state
    self.reason = reason
    self.held = held
  }

  enum CodingKeys: String, CodingKey {
    case name, peer, file, line, state, mode, held, reason
    case upSince = "up_since"
    case nextTrySeconds = "next_try_seconds"
  }
}

extension IKEConnectionStatus {
  /// What a person wants to know besides the state; empty: nothing.
  public func remark(now: Double = Date().timeIntervalSince1970) -> String {
    switch state {
    case .waiting, .loaded, .failed: reason ?? (held ? Self.tornDown : "")
    case .up: upSince.map { "for \(IKEReport.duration(UInt64(max(0, now - $0))))" } ?? ""
    case .connecting: reason ?? "the peer has not answered yet"
    case .down where held: Self.tornDown
    case .down: [reason, next].compactMap(\.self).joined(separator: "; ")
    }
  }

  private static let tornDown = "torn down; gwctl ike connect brings it back"

  private var next: String? {
    if let nextTrySeconds { return nextTrySeconds == 0 ? "asked for now" : "asked for in \(nextTrySeconds) s" }
    return mode == "passive" ? "waits for the peer, or gwctl ike connect" : nil
  }
}

/// The key daemon that gwd gives its `ike` rules to: `GET /v1/ike`.
public struct KeyDaemonStatus: Codable, Sendable, Hashable {
  /// `charon`, `iked` or `none`.
  public var daemon: KeyDaemon.Kind
  public var socketPath: String
  /// Nil: it is there, or nothing is to be told to it.
  public var waitingFor: String?
  public var connections: [IKEConnectionStatus]
  /// Certificates and keys that were not taken.
  public var problems: [String]
  /// The file that a capture of IKE goes to.
  public var capture: String?

  public init(
    daemon: KeyDaemon.Kind, socketPath: String, waitingFor: String? = nil, connections: [IKEConnectionStatus] = [],
    problems: [String] = [], capture: String? = nil
  ) {
    self.daemon = daemon
    self.socketPath = socketPath
    self.waitingFor = waitingFor
    self.connections = connections
    self.problems = problems
    self.capture = capture
  }

  enum CodingKeys: String, CodingKey {
    case daemon, connections, problems, capture
    case socketPath = "socket_path"
    case waitingFor = "waiting_for"
  }
}
