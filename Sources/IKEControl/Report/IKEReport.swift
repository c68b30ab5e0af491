/// The key daemon's state, in the spirit of isakmpd's report: connections, IKE SAs, child SAs.
public struct IKEReport: Codable, Sendable, Hashable {
  public struct Daemon: Codable, Sendable, Hashable {
    /// `charon`, `iked`.
    public var name: String
    public var version: String?
    public var socketPath: String
    public var processID: Int32?
    public var uptime: String?
    /// IKE SAs that are not established yet.
    public var halfOpen: UInt64?
  }

  public struct Connection: Codable, Sendable, Hashable {
    public var name: String
    public var version: String?
    public var localAddresses: [String] = []
    public var remoteAddresses: [String] = []
    /// `psk, 192.0.2.1`.
    public var local: String?
    public var remote: String?
    public var rekeySeconds: UInt64?
    /// Seconds between questions whether the peer lives; nil: none are asked.
    public var deadPeerSeconds: UInt64?
    public var children: [ConnectionChild] = []
  }

  public struct ConnectionChild: Codable, Sendable, Hashable {
    public var name: String
    public var mode: String
    public var localSelectors: [String]
    public var remoteSelectors: [String]
    public var rekeySeconds: UInt64?
  }

  public struct IKESA: Codable, Sendable, Hashable {
    public var name: String
    public var id: String
    public var version: String?
    public var state: String
    public var localHost: String?
    public var localPort: UInt64?
    public var localID: String?
    public var remoteHost: String?
    public var remotePort: UInt64?
    public var remoteID: String?
    public var isInitiator = false
    public var initiatorSPI: String?
    public var responderSPI: String?
    /// `AES_CBC-256 HMAC_SHA2_256_128 PRF_HMAC_SHA2_256 MODP_2048`.
    public var transform: String?
    /// `local`, `remote`: which side is behind a NAT.
    public var nat: [String] = []
    public var establishedSeconds: UInt64?
    /// Until then.
    public var rekeySeconds: UInt64?
    public var reauthenticationSeconds: UInt64?
    public var tasks: [String] = []
    public var children: [ChildSA] = []
  }

  public struct ChildSA: Codable, Sendable, Hashable {
    public var name: String
    public var id: String
    public var requestID: UInt64?
    public var state: String
    public var mode: String?
    public var saProtocol: String?
    public var isInUDP = false
    /// Hexadecimal.
    public var spiIn: String?
    public var spiOut: String?
    public var transform: String?
    public var isESN = false
    public var bytesIn: UInt64?
    public var packetsIn: UInt64?
    public var bytesOut: UInt64?
    public var packetsOut: UInt64?
    /// Since the last packet.
    public var idleInSeconds: UInt64?
    public var idleOutSeconds: UInt64?
    public var installedSeconds: UInt64?
    public var rekeySeconds: UInt64?
    public var expirySeconds: UInt64?
    public var localSelectors: [String] = []
    public var remoteSelectors: [String] = []
  }

  public var daemon: Daemon
  public var connections: [Connection] = []
  public var sas: [IKESA] = []

  public init(daemon: Daemon) { self.daemon = daemon }
}
