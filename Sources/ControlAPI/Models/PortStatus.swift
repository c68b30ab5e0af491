/// One port of the data path and its counters since start. A copy; any thread.
public struct PortStatus: Codable, Sendable, Hashable {
  public var name: String
  /// DPDK's port id.
  public var index: UInt16
  /// The PCI address or vdev string of gateway.yaml.
  public var device = ""
  /// The poll-mode driver: `net_af_packet`, `net_ixgbe` …
  public var driver = ""
  public var mac = ""
  public var mtuBytes: UInt32 = 0
  public var linkUp = false
  /// 0: not known.
  public var linkSpeedMbps: UInt32 = 0
  public var fullDuplex = true
  public var promiscuous = false
  /// Whether a TAP of the port's name exists.
  public var host = false
  /// The gateway's own, `ADDR/N`.
  public var addresses: [String] = []
  public var rxQueues: UInt16 = 0
  public var txQueues: UInt16 = 0
  /// The ESP that the device spreads over its queues by SPI (rte_flow): `ipv4/esp`, `ipv4/udp/esp` …
  public var espRules: [String] = []
  /// The NUMA socket of the device; -1: not known.
  public var socket: Int32 = -1
  public var rxPackets: UInt64 = 0
  public var rxBytes: UInt64 = 0
  public var rxErrors: UInt64 = 0
  /// Dropped by the device because no worker fetched them in time.
  public var rxMissed: UInt64 = 0
  /// Dropped by the driver because the mempool was empty.
  public var rxNoMbuf: UInt64 = 0
  public var txPackets: UInt64 = 0
  public var txBytes: UInt64 = 0
  public var txErrors: UInt64 = 0

  public init(name: String, index: UInt16) {
    self.name = name
    self.index = index
  }

  enum CodingKeys: String, CodingKey {
    case name, index, device, driver, mac, promiscuous, host, addresses, socket
    case mtuBytes = "mtu_bytes"
    case linkUp = "link_up"
    case linkSpeedMbps = "link_speed_mbps"
    case fullDuplex = "full_duplex"
    case rxQueues = "rx_queues"
    case txQueues = "tx_queues"
    case espRules = "esp_rules"
    case rxPackets = "rx_packets"
    case rxBytes = "rx_bytes"
    case rxErrors = "rx_error_packets"
    case rxMissed = "rx_missed_packets"
    case rxNoMbuf = "rx_no_mbuf_packets"
    case txPackets = "tx_packets"
    case txBytes = "tx_bytes"
    case txErrors = "tx_error_packets"
  }
}
