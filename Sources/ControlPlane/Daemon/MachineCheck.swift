import ConfigurationFiles
import DPDK
import Foundation
import Machine

/// What of a configuration this machine cannot give: devices, cores, memory, rights. Opens nothing, changes nothing.
struct MachineCheck {
  private let configuration: GatewayConfiguration
  private let runDirectory: String
  private let files: MachineFiles

  init(_ configuration: GatewayConfiguration, runDirectory: String?, files: MachineFiles = MachineFiles()) {
    self.configuration = configuration
    self.runDirectory = runDirectory ?? configuration.runDirectory
    self.files = files
  }

  /// A line each, with its remedy.
  func complaints() -> [String] { devices() + cores() + memory() + rights() }

  private var ports: [PortDevice] { configuration.ports.compactMap { try? PortDevice($0.device) } }

  private func devices() -> [String] {
    configuration.ports.compactMap { port in
      do {
        try PortDevice(port.device).check()
        return nil
      } catch { return "port \(port.name): \(error)" }
    }
  }

  private func cores() -> [String] {
    do {
      try Gateway.ealConfiguration(configuration, runDirectory: runDirectory).validate()
      return []
    } catch { return ["\(error)"] }
  }

  /// Pages that are taken may be those of the gateway that runs, which this configuration is meant for.
  private func memory() -> [String] {
    guard configuration.hugepages, Hugepages.total == 0 else { return [] }
    return ["\(EALError.noHugepages(needed: Hugepages.pages(for: configuration.memory ?? 512)))"]
  }

  // MARK: Rights

  private func rights() -> [String] {
    let missing = neededCapabilities().subtracting(Capability.effective(files))
    let lacking = Capability.allCases.filter(missing.contains)
    var complaints = lacking.map { "\($0.name) is missing, for \($0.purpose); run as root, or see gwd.service" }
    for device in ports {
      if case .pci(let address) = device, let complaint = groupDevice(address) { complaints.append(complaint) }
    }
    if configuration.ports.contains(where: \.host), access("/dev/net/tun", R_OK | W_OK) != 0 {
      complaints.append("/dev/net/tun: \(String(cString: strerror(errno))); run: modprobe tun")
    }
    return complaints
  }

  private func neededCapabilities() -> Set<Capability> {
    var needed: Set<Capability> = []
    if configuration.ports.contains(where: \.host) { needed.insert(.netAdmin) }
    for device in ports {
      switch device {
      case .pci(let address):
        needed.insert(.ipcLock)
        // Without an IOMMU, vfio wants it of whoever opens the device.
        let isShielded = PCIDevice(address, files: files).map { $0.isBifurcated || $0.iommuGroup != nil } ?? true
        if !isShielded { needed.insert(.sysRawIO) }
      case .virtual(let name, _):
        if name.hasPrefix("net_af_") { needed.formUnion([.netRaw, .netAdmin]) }
      }
    }
    return needed
  }

  private func groupDevice(_ address: String) -> String? {
    guard let device = PCIDevice(address, files: files), device.driver == "vfio-pci", let group = device.iommuGroup
    else { return nil }
    let path = files.path("/dev/vfio/\(group)")
    // Held by the gateway that runs: busy, but there.
    if access(path, R_OK | W_OK) == 0 || errno == EBUSY { return nil }
    return "device \(address): \(path): \(String(cString: strerror(errno))); "
      + "the udev rule 60-gw.rules gives it to the user gw; run: udevadm trigger -s vfio"
  }
}
