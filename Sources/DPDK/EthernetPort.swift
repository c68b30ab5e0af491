import CDPDK
import Foundation
import Wire

/// A DPDK port. The control thread opens, starts and closes it; each worker polls its own queue by `id`:
/// `cdpdk_rx_burst(port.id, queue, …)`. Statistics and link may be read on any thread.
public final class EthernetPort: @unchecked Sendable {
  public let device: PortDevice
  /// DPDK's number of the port.
  public let id: UInt16
  public let driver: String
  /// NUMA node; -1: any.
  public let socket: Int
  public let configuration: PortConfiguration
  /// What it got, each at most `configuration.queues`.
  public let receiveQueues: Int
  public let transmitQueues: Int
  public let receiveDescriptors: Int
  public let transmitDescriptors: Int
  /// Packets are spread over the receive queues by their hash.
  public let hasRSS: Bool
  /// The ESP that a rule of the device's (rte_flow) spreads over the receive queues by SPI: `ipv4/esp`, `ipv4/udp/esp` …
  /// Without one its hash may still take the SPI in. Since `start`; control thread.
  public private(set) var espRules: [String] = []
  /// The device checks IPv4 header checksums (`cdpdk_rx_ip_checksum_bad` in `ol_flags`).
  public let checksIPv4: Bool
  /// The largest IP packet it sends and receives, in bytes. Control thread.
  public private(set) var mtu: Int
  private let setup: PortSetup
  private var isStarted = false
  private var isClosed = false

  /// Attaches the device and sets up its queues; nothing is received before `start`. `pool(socket)` gives the pool of a
  /// NUMA node. Throws and leaves the device detached.
  public init(
    _ device: PortDevice, _ configuration: PortConfiguration, pool: (_ socket: Int) throws -> Mempool
  ) throws {
    self.device = device
    self.configuration = configuration
    let id = try DeviceProbe.attach(device, configuration)
    do {
      let setup = try PortSetup(id: id, device: device, configuration: configuration)
      let socket = Int(rte_eth_dev_socket_id(id))
      try setup.queues(pool: pool(socket))
      try setup.setMTU(configuration.mtu)
      self.id = id
      self.socket = socket
      self.setup = setup
      mtu = configuration.mtu
      driver = setup.info.driver_name.map { String(cString: $0) } ?? "unknown"
      receiveQueues = Int(setup.receiveQueues)
      transmitQueues = Int(setup.transmitQueues)
      receiveDescriptors = Int(setup.receiveDescriptors)
      transmitDescriptors = Int(setup.transmitDescriptors)
      hasRSS = setup.hasRSS
      checksIPv4 = setup.checksIPv4
    } catch {
      DeviceProbe.detach(id)
      throw error
    }
  }

  public func start() throws(PortError) {
    guard !isStarted else { return }
    let outcome = EALLog.shared.collecting { rte_eth_dev_start(id) }
    try PortSetup.check(outcome, device, "start")
    isStarted = true
    try setPromiscuous(configuration.isPromiscuous)
    if configuration.takesAllMulticast { try takeAllMulticast() }
    spreadESP()
  }

  /// A gateway's peers have few addresses and many SAs: by addresses alone one queue would have all of a peer's.
  private func spreadESP() {
    guard receiveQueues > 1 else { return }
    let queues = (0..<receiveQueues).map { UInt16($0) }
    for pattern in 0..<Int(CDPDK_ESP_PATTERNS) {
      let outcome = EALLog.shared.collecting { cdpdk_spread_esp(id, UInt32(pattern), queues, UInt32(queues.count)) }
      if outcome.result == 0, let name = cdpdk_esp_pattern(UInt32(pattern)) { espRules.append(String(cString: name)) }
    }
  }

  /// No worker polls it any more.
  public func stop() {
    guard isStarted else { return }
    isStarted = false
    if !espRules.isEmpty { rte_flow_flush(id, nil) }
    espRules = []
    _ = rte_eth_dev_stop(id)
  }

  /// Stops it and gives the device back; its name may be opened again.
  public func close() {
    guard !isClosed else { return }
    stop()
    isClosed = true
    DeviceProbe.detach(id)
  }

  public func setPromiscuous(_ isOn: Bool) throws(PortError) {
    let outcome = EALLog.shared.collecting {
      isOn ? rte_eth_promiscuous_enable(id) : rte_eth_promiscuous_disable(id)
    }
    if outcome.result == -ENOTSUP { return }  // virtual devices without an address filter
    try PortSetup.check(outcome, device, "promiscuous mode")
  }

  /// Where a device cannot, it takes every frame instead; one that has no address filter takes them all anyway.
  private func takeAllMulticast() throws(PortError) {
    let outcome = EALLog.shared.collecting { rte_eth_allmulticast_enable(id) }
    if outcome.result != 0 { try setPromiscuous(true) }
  }

  public var hasAllMulticast: Bool { rte_eth_allmulticast_get(id) == 1 }

  /// Changes the MTU; buffers of the pool have room for it. Many devices want to be stopped for it.
  public func setMTU(_ new: Int) throws(PortError) {
    try setup.checkMTU(new)
    try setup.setMTU(new)
    mtu = new
  }

  public var macAddress: MACAddress {
    var address = rte_ether_addr()
    _ = rte_eth_macaddr_get(id, &address)
    return withUnsafeBytes(of: &address) { $0.baseAddress!.macAddress(at: 0) }
  }

  /// The device takes another address; false: it cannot.
  public func setMACAddress(_ address: MACAddress) -> Bool {
    var raw = rte_ether_addr()
    withUnsafeMutableBytes(of: &raw) { $0.baseAddress!.setAddress(address, at: 0) }
    if rte_eth_dev_default_mac_addr_set(id, &raw) == 0 { return true }
    // A device that has none, such as a ring, takes the first that is added for its own.
    return macAddress.rawValue == 0 && rte_eth_dev_mac_addr_add(id, &raw, 0) == 0 && macAddress == address
  }

  /// Does not wait for the device.
  public var link: PortLink {
    var link = rte_eth_link()
    guard rte_eth_link_get_nowait(id, &link) == 0 else { return PortLink(isUp: false, speed: nil, isFullDuplex: false) }
    let isKnown = link.link_speed != 0 && link.link_speed != UInt32.max
    return PortLink(
      isUp: link.link_status == 1, speed: isKnown ? link.link_speed : nil, isFullDuplex: link.link_duplex == 1)
  }

  public var statistics: PortStatistics {
    var raw = rte_eth_stats()
    var statistics = PortStatistics()
    guard rte_eth_stats_get(id, &raw) == 0 else { return statistics }
    statistics.receivedPackets = raw.ipackets
    statistics.receivedBytes = raw.ibytes
    statistics.sentPackets = raw.opackets
    statistics.sentBytes = raw.obytes
    statistics.missed = raw.imissed
    statistics.receiveErrors = raw.ierrors
    statistics.sendErrors = raw.oerrors
    statistics.noBuffers = raw.rx_nombuf
    return statistics
  }

  public func resetStatistics() { _ = rte_eth_stats_reset(id) }

  /// The device's own counters by name.
  public var extendedStatistics: [(name: String, value: UInt64)] {
    let count = rte_eth_xstats_get(id, nil, 0)
    guard count > 0 else { return [] }
    var values = [rte_eth_xstat](repeating: rte_eth_xstat(), count: Int(count))
    var names = [rte_eth_xstat_name](repeating: rte_eth_xstat_name(), count: Int(count))
    guard rte_eth_xstats_get(id, &values, UInt32(count)) == count,
      rte_eth_xstats_get_names(id, &names, UInt32(count)) == count
    else { return [] }
    return values.compactMap { value in
      guard value.id < UInt64(names.count) else { return nil }
      let name = withUnsafeBytes(of: names[Int(value.id)].name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      return (name, value.value)
    }
  }

  /// One line for the daemon's log: what the port got.
  public var summary: String {
    var parts = ["driver \(driver)", "mac \(macAddress)", "mtu \(mtu)"]
    parts.append("queues \(receiveQueues) rx, \(transmitQueues) tx of \(configuration.queues)")
    parts.append("descriptors \(receiveDescriptors)/\(transmitDescriptors)")
    if socket >= 0 { parts.append("NUMA node \(socket)") }
    if hasRSS { parts.append("RSS") }
    if !espRules.isEmpty { parts.append("by SPI for " + espRules.joined(separator: ", ")) }
    return "\(device): " + parts.joined(separator: ", ")
  }
}
