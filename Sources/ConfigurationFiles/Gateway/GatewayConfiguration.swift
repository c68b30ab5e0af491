import Wire

/// What `gateway.yaml` says, checked: a plain value, read once and handed around.
public struct GatewayConfiguration: Sendable, Equatable {
  /// How a worker without packets waits: polling hard, or sleeping a little (a laptop, CI).
  public enum Idle: String, Sendable, CaseIterable { case poll, sleep }

  /// The crypto engine; `auto` takes the fastest that has the algorithm.
  public enum Crypto: String, Sendable, CaseIterable {
    case auto, openssl, native
    case ipsecMB = "ipsec-mb"
  }

  /// What becomes of a key daemon's SAs and policies when its connection closes.
  public enum IKEExit: Sendable, Equatable {
    case keep, flush
    /// Kept for so many seconds, then flushed unless a daemon has come back.
    case hold(seconds: Int)
  }

  /// Whether packets too big for the path are fragmented before or after encapsulation.
  public enum Fragmentation: String, Sendable, CaseIterable { case before, after }

  /// What becomes of fragments of protocols with ports, which no policy with ports can be held against (RFC 4301 7).
  public enum PortlessFragments: String, Sendable, CaseIterable {
    /// They go no further where a policy with ports may be theirs; else they match the policies without.
    case auto
    /// They match the policies without ports only (7.1).
    case match
    /// They go no further.
    case drop
  }

  /// The padding that ESP packets may have.
  public enum ESPPadding: String, Sendable, CaseIterable {
    /// 1, 2, 3 …, as senders must fill it (RFC 4303 2.4).
    case strict
    /// Whatever it is, as long as it lies within the packet.
    case any
  }

  /// Which sources of packets in clear a port takes, by the way back to them (RFC 2827, RFC 3704).
  public enum SourceCheck: String, Sendable, CaseIterable {
    /// As `strict` for sources that an outbound policy protects, as `loose` for others.
    case auto
    /// The way back leaves by the port that the packet came in by.
    case strict
    /// There is a way back.
    case loose
    case off
  }

  public enum TableMemory: String, Sendable, CaseIterable {
    /// On the node of the control thread, which fills them.
    case local
    /// Page by page over all nodes.
    case interleave
  }

  public enum LogLevel: String, Sendable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
  }

  /// Where the Prometheus exporter listens; no exporter without it.
  public struct Metrics: Sendable, Equatable {
    public var address: IPAddress
    public var port: UInt16
  }

  /// `eal:` extra arguments for EAL, passed on as they are.
  public var eal: [String] = []
  public var hugepages = true
  /// MiB for EAL; nil: EAL's own choice. 512 where `hugepages` is false and nothing is said.
  public var memory: Int?
  /// Where the tables lie that all workers read; what a worker alone writes lies on its own node.
  public var numa = TableMemory.local
  /// Cores that poll; nil: all but the first.
  public var workers: [Int]?
  /// At least one, names and devices all different.
  public var ports: [Port] = []
  public var routes: [StaticRoute] = []
  public var neighbors: [StaticNeighbor] = []
  /// The path of `ipsec.conf`, relative paths resolved against the folder of `gateway.yaml`; nil: none.
  public var ipsec: String?
  public var idle = Idle.poll
  public var crypto = Crypto.auto
  public var onIKEExit = IKEExit.hold(seconds: 30)
  public var ike = KeyDaemon()
  public var runDirectory = "/run/gw"
  public var stateDirectory = "/var/lib/gw"
  public var logLevel = LogLevel.info
  /// The most packets taken from a queue at once.
  public var burst = 32
  public var limits = Limits()
  /// Algorithms and combinations that RFC 8221 forbids may be used: hmac-md5, encryption without integrity, and so on.
  public var allowWeak = false
  /// SPIs of 1 to 255, which are IANA's, may be used.
  public var lowSPIs = false
  public var fragments = Fragmentation.before
  public var portlessFragments = PortlessFragments.auto
  public var espPadding = ESPPadding.strict
  /// Of ports that do not say for themselves.
  public var sourceCheck = SourceCheck.auto
  /// Seconds after which what ICMP said of an SA's path is forgotten and larger packets are tried again.
  public var pathMTUExpiry = 600
  /// Dummy packets a second by every outbound ESP tunnel SA (RFC 4303 2.6).
  public var dummyPackets = 0
  public var metrics: Metrics?
  /// Tunnels that have metrics of their own, the oldest first; of the others only the number is told.
  public var metricsTunnels = 1000
  /// Packets in the replay window of SAs with static keys: 0, or 32...65536. A peer that begins again at 1 when it is
  /// started again, as OpenBSD does, wants 0; a gateway of this kind does not.
  public var manualReplayWindow = 64

  public init() {}

  /// Of each port, in their order.
  public var sourceChecks: [SourceCheck] { ports.map { $0.sourceCheck ?? sourceCheck } }

  public func port(named name: String) -> Port? { ports.first { $0.name == name } }
}
