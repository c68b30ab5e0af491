import CDPDK
import Foundation

/// Configures an attached device: queues, descriptors, offloads, RSS, MTU.
struct PortSetup {
  let id: UInt16
  let device: PortDevice
  let configuration: PortConfiguration
  let info: rte_eth_dev_info
  let receiveQueues: UInt16
  let transmitQueues: UInt16
  private(set) var receiveDescriptors: UInt16
  private(set) var transmitDescriptors: UInt16
  let hasRSS: Bool
  let checksIPv4: Bool

  init(id: UInt16, device: PortDevice, configuration: PortConfiguration) throws(PortError) {
    self.id = id
    self.device = device
    self.configuration = configuration
    var info = rte_eth_dev_info()
    let outcome = EALLog.shared.collecting { rte_eth_dev_info_get(id, &info) }
    try Self.check(outcome, device, "device information")
    self.info = info
    let wanted = UInt16(clamping: max(1, configuration.queues))
    // A device without receive queues of its own (pcap with tx only) still wants one.
    var receive = max(1, min(wanted, info.max_rx_queues))
    var transmit = max(1, min(wanted, info.max_tx_queues))
    if Self.wantsPairs(device) {
      receive = min(receive, transmit)
      transmit = receive
    }
    receiveQueues = receive
    transmitQueues = transmit
    receiveDescriptors = UInt16(clamping: configuration.receiveDescriptors)
    transmitDescriptors = UInt16(clamping: configuration.transmitDescriptors)
    hasRSS = receive > 1 && info.flow_type_rss_offloads != 0
    checksIPv4 = info.rx_offload_capa & cdpdk_rx_offload_ipv4_checksum() != 0
    try configure()
  }

  /// As many receive as transmit queues.
  private static func wantsPairs(_ device: PortDevice) -> Bool {
    switch device.driver {
    case "net_af_packet", "net_af_xdp", "net_tap", "net_virtio_user": true
    default: false
    }
  }

  private mutating func configure() throws(PortError) {
    try checkMTU(configuration.mtu)
    var conf = rte_eth_conf()
    conf.rxmode.mtu = UInt32(configuration.mtu)
    if checksIPv4 { conf.rxmode.offloads |= cdpdk_rx_offload_ipv4_checksum() }
    if configuration.fastFree { conf.txmode.offloads |= info.tx_offload_capa & cdpdk_tx_offload_fast_free() }
    if hasRSS {
      conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS
      conf.rxmode.offloads |= info.rx_offload_capa & cdpdk_rx_offload_rss_hash()
      let wanted = cdpdk_rss_ip() | cdpdk_rss_l4() | cdpdk_rss_esp()
      conf.rx_adv_conf.rss_conf.rss_hf = wanted & info.flow_type_rss_offloads
    }
    var outcome = EALLog.shared.collecting { rte_eth_dev_configure(id, receiveQueues, transmitQueues, &conf) }
    if outcome.result == -EINVAL, keepsMTUInKernel || configuration.mtu <= 1500 {
      // Drivers that count 14 bytes of frame around their own limit refuse an MTU that they carry.
      conf.rxmode.mtu = 0
      outcome = EALLog.shared.collecting { rte_eth_dev_configure(id, receiveQueues, transmitQueues, &conf) }
    }
    try Self.check(outcome, device, "configuration of \(receiveQueues) + \(transmitQueues) queues")
    let adjusted = EALLog.shared.collecting {
      rte_eth_dev_adjust_nb_rx_tx_desc(id, &receiveDescriptors, &transmitDescriptors)
    }
    try Self.check(adjusted, device, "choice of descriptors")
  }

  func checkMTU(_ mtu: Int) throws(PortError) {
    let lowest = max(68, Int(info.min_mtu))
    let highest = info.max_mtu == 0 ? 9700 : min(9700, Int(info.max_mtu))
    guard lowest <= highest, (lowest...highest).contains(mtu) else {
      throw .mtu(device: device.description, mtu: mtu, supported: lowest...max(lowest, highest))
    }
  }

  func queues(pool: Mempool) throws(PortError) {
    let socket = UInt32(bitPattern: rte_eth_dev_socket_id(id))
    for queue in 0..<receiveQueues {
      var conf = info.default_rxconf
      if checksIPv4 { conf.offloads |= cdpdk_rx_offload_ipv4_checksum() & info.rx_queue_offload_capa }
      let outcome = EALLog.shared.collecting {
        rte_eth_rx_queue_setup(id, queue, receiveDescriptors, socket, &conf, pool.base)
      }
      try Self.check(outcome, device, "receive queue \(queue)")
    }
    for queue in 0..<transmitQueues {
      let outcome = EALLog.shared.collecting {
        rte_eth_tx_queue_setup(id, queue, transmitDescriptors, socket, nil)
      }
      try Self.check(outcome, device, "transmit queue \(queue)")
    }
  }

  /// af_packet says that it takes 1518 bytes, but takes what fits its slots: the kernel's interface is what counts.
  private var keepsMTUInKernel: Bool { device.driver == "net_af_packet" }

  func setMTU(_ mtu: Int) throws(PortError) {
    if keepsMTUInKernel, let interface = device.argument("iface") {
      let result = cdpdk_interface_set_mtu(interface, Int32(clamping: mtu))
      return try Self.check((result, []), device, "mtu \(mtu) of \(interface)")
    }
    var current: UInt16 = 0
    if rte_eth_dev_get_mtu(id, &current) == 0, Int(current) == mtu { return }
    let outcome = EALLog.shared.collecting { rte_eth_dev_set_mtu(id, UInt16(clamping: mtu)) }
    if outcome.result == -ENOTSUP { return }  // ring, pcap, null: whatever is sent
    try Self.check(outcome, device, "mtu \(mtu)")
  }

  static func check(_ outcome: (result: Int32, problems: [String]), _ device: PortDevice, _ what: String)
    throws(PortError)
  {
    guard outcome.result < 0 else { return }
    let code = -outcome.result
    if PortError.isPermission(code: code, problems: outcome.problems) {
      throw .noPermission(device: device.description)
    }
    let reason = outcome.problems.last ?? String(cString: rte_strerror(code))
    throw .refused(device: device.description, what: what, reason: reason)
  }
}
