import CDPDK
import Foundation
import Machine

/// Finds a port's device and attaches it, with what each driver needs.
enum DeviceProbe {
  /// The number of the new port.
  static func attach(_ device: PortDevice, _ configuration: PortConfiguration) throws(PortError) -> UInt16 {
    try checkExists(device)
    // A device that EAL found at start (an allowed PCI address, --vdev).
    if let id = port(named: device.name) {
      guard rte_eth_dev_is_valid_port(id) == 1, !isConfigured(id) else { throw .inUse(device: device.description) }
      return id
    }
    let arguments = DriverArguments(device, configuration).text
    let bus = device.driver == nil ? "pci" : "vdev"
    let outcome = EALLog.shared.collecting { rte_eal_hotplug_add(bus, device.name, arguments) }
    if outcome.result < 0 { throw failure(device, code: -outcome.result, problems: outcome.problems) }
    guard let id = port(named: device.name) else {
      throw .refused(device: device.description, what: "attaching", reason: "it is no Ethernet device")
    }
    return id
  }

  /// Stops, closes and removes a port's device.
  static func detach(_ id: UInt16) {
    var info = rte_eth_dev_info()
    let device = rte_eth_dev_info_get(id, &info) == 0 ? info.device : nil
    // 22.11's memif frees its channel twice if its peer's going is handled, on EAL's interrupt thread, while it closes:
    // as when both ends are ours, closed one after the other.
    if info.driver_name.map({ String(cString: $0) }) == "net_memif" { usleep(50_000) }
    _ = rte_eth_dev_close(id)
    if let device { _ = rte_dev_remove(device) }
  }

  private static func port(named name: String) -> UInt16? {
    var id: UInt16 = 0
    return rte_eth_dev_get_port_by_name(name, &id) == 0 ? id : nil
  }

  private static func isConfigured(_ id: UInt16) -> Bool {
    var info = rte_eth_dev_info()
    return rte_eth_dev_info_get(id, &info) == 0 && info.nb_rx_queues != 0
  }

  /// Whether there is such a device, and one that DPDK may have.
  static func checkExists(_ device: PortDevice) throws(PortError) {
    switch device {
    case .pci(let address): try checkPCI(address)
    case .virtual:
      for key in ["iface", "rx_iface", "tx_iface", "rx_iface_in"] where device.driver != "net_tap" {
        guard let interface = device.argument(key) else { continue }
        guard if_nametoindex(interface) != 0 else {
          throw .noSuchInterface(device: device.description, interface: interface)
        }
      }
      if let path = device.argument("rx_pcap"), access(path, R_OK) != 0 {
        throw errno == EACCES
          ? .noPermission(device: device.description) : .noSuchFile(device: device.description, path: path)
      }
      if let path = device.argument("tx_pcap") {
        let folder = (path as NSString).deletingLastPathComponent
        guard access(folder.isEmpty ? "." : folder, W_OK) == 0 else {
          throw errno == EACCES
            ? .noPermission(device: device.description) : .noSuchFile(device: device.description, path: folder)
        }
      }
    }
  }

  static func checkPCI(_ address: String, files: MachineFiles = MachineFiles()) throws(PortError) {
    guard let device = PCIDevice(address, files: files) else { throw .noSuchPCIDevice(address) }
    guard device.isBifurcated || device.isForUserSpace else {
      throw .kernelDriver(
        address: address, driver: device.driver, remedy: UserSpaceBinding(files).advice(for: address))
    }
  }

  private static func failure(_ device: PortDevice, code: Int32, problems: [String]) -> PortError {
    if code == EEXIST { return .inUse(device: device.description) }
    if PortError.isPermission(code: code, problems: problems) { return .noPermission(device: device.description) }
    let hasNoDriver = problems.contains {
      $0.contains("failed to parse device") || $0.contains("failed to find driver") || $0.contains("no driver found")
    }
    if hasNoDriver { return .noSuchDriver(device.description) }
    // The bus and EAL repeat in general words what the driver said first.
    let reason = problems.first ?? String(cString: rte_strerror(code))
    return .refused(device: device.description, what: "attaching", reason: reason + "; check the driver's arguments")
  }
}
