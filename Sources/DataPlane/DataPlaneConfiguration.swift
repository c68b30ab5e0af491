import Wire

/// What the data path is built from. A plain value.
public struct DataPlaneConfiguration: Sendable {
  public struct Port: Sendable {
    public var name: String
    /// A PCI address, or a vdev as written for --vdev.
    public var device: String
    /// A TAP of the same name carries what the host must see.
    public var hasHost: Bool
    public var mtu: Int
    public var mac: MACAddress?
    /// Queue pairs at most; nil: one a worker.
    public var queues: Int?

    public init(
      name: String, device: String, hasHost: Bool, mtu: Int = 1500, mac: MACAddress? = nil, queues: Int? = nil
    ) {
      self.name = name
      self.device = device
      self.hasHost = hasHost
      self.mtu = mtu
      self.mac = mac
      self.queues = queues
    }
  }

  public var ports: [Port]
  /// Begins the names of its pools and rings, at most 8 bytes: its own where a process has several data planes.
  public var name = "gw"
  /// The most packets a worker takes at once, 32...256.
  public var burst = 32
  public var sleepsWhenIdle = false
  /// Entries of each worker's flow cache; 64 bytes each, so these are one huge page.
  public var flows = 32768
  /// Slots for the counters of SAs and policies (`DatabaseLimits.counterSlots`).
  public var counterSlots: Int
  /// Packets kept for one neighbour, and for all, while it is resolved.
  public var waitingPerNeighbor = 16
  public var waitingInAll = 1024
  /// ICMP errors a second, of each worker.
  public var icmpRate: UInt64 = 100
  /// Datagrams of fragments to the gateway that each worker puts together at a time.
  public var reassemblies: UInt32 = 1024

  public init(ports: [Port], counterSlots: Int) {
    self.ports = ports
    self.counterSlots = counterSlots
  }
}
