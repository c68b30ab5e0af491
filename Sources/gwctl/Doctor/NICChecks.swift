import ControlAPI
import Machine

extension Examination {
  func nicFindings() -> [Finding] {
    guard configuration != nil else { return unusedNICs() }
    return pciAddresses.flatMap(nic) + virtualPorts() + runningPorts()
  }

  /// Without a configuration: what there is to choose from.
  private func unusedNICs() -> [Finding] {
    PCIDevice.networkDevices(files).map {
      let names = $0.interfaces.isEmpty ? "no interface" : $0.interfaces.joined(separator: ", ")
      return .good("nic \($0.address)", "\($0.driver ?? "no driver"), \(names)")
    }
  }

  private func nic(_ address: String) -> [Finding] {
    let subject = "nic \(address)"
    guard let device = PCIDevice(address, files: files) else {
      return [.bad(subject, "there is no such PCI device", "lspci -D | grep -i -e ethernet -e network")]
    }
    var findings: [Finding] = []
    let binding = UserSpaceBinding(files)
    if device.isBifurcated {
      findings.append(.good(subject, "\(device.driver ?? "") shares it with DPDK"))
    } else if device.isForUserSpace {
      findings.append(.good(subject, "bound to \(device.driver ?? "")"))
      findings += shield(device, subject)
      findings += persistence(device, subject)
      findings += deviceFile(device, subject)
    } else {
      let holder = device.driver.map { "the kernel's driver \($0) holds it" } ?? "no driver is bound to it"
      findings.append(.bad(subject, holder, binding.commands(for: address).joined(separator: "; ")))
    }
    return findings + node(device, subject)
  }

  private func shield(_ device: PCIDevice, _ subject: String) -> [Finding] {
    if device.iommuGroup != nil && UserSpaceBinding(files).hasIOMMU, device.driver == "vfio-pci" {
      return [.good(subject, "an IOMMU keeps it to the gateway's memory")]
    }
    return [
      .warning(
        subject, "no IOMMU: the card can write to any memory, and gwd needs CAP_SYS_RAWIO",
        "turn VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on iommu=pt")
    ]
  }

  /// driverctl's files are named after bus and address.
  private func persistence(_ device: PCIDevice, _ subject: String) -> [Finding] {
    let file = "/etc/driverctl.d/pci-\(device.address)"
    if files.text(file) == device.driver { return [] }
    return [
      .warning(
        subject, "its binding does not outlast a reboot",
        "driverctl set-override \(device.address) \(device.driver ?? "vfio-pci")")
    ]
  }

  private func deviceFile(_ device: PCIDevice, _ subject: String) -> [Finding] {
    guard device.driver == "vfio-pci", let group = device.iommuGroup else { return [] }
    let path = files.exists("/dev/vfio/\(group)") ? "/dev/vfio/\(group)" : "/dev/vfio/noiommu-\(group)"
    guard files.exists(path) else {
      return [.bad(subject, "there is no \(path)", "modprobe vfio-pci && udevadm trigger -s vfio")]
    }
    return []
  }

  private func node(_ device: PCIDevice, _ subject: String) -> [Finding] {
    guard device.numaNode >= 0, !workers.isEmpty else { return [] }
    let near = CoreList(files.text("/sys/devices/system/node/node\(device.numaNode)/cpulist") ?? "")
    guard !near.cores.isEmpty else { return [] }
    let far = workers.filter { !near.contains($0) }
    if far.isEmpty { return [.good(subject, "on NUMA node \(device.numaNode), as its workers are")] }
    return [
      .warning(
        subject, "on NUMA node \(device.numaNode); workers on \(CoreList(Set(far)).text) are on another",
        "in gateway.yaml: workers: [\(near.cores.sorted().dropFirst().prefix(far.count).map(String.init).joined(separator: ", "))]"
      )
    ]
  }

  /// Virtual devices that need something of the kernel.
  private func virtualPorts() -> [Finding] {
    let devices = (configuration?.ports ?? []).map { (name: $0.name, device: $0.device) }
    return devices.filter { $0.device.hasPrefix("net_af_xdp") }.map { port in
      let subject = "port \(port.name)"
      if files.exists("/sys/fs/bpf"), files.exists("/etc/systemd/system/gwd.service.d/50-setup.conf") {
        return .good(subject, "AF_XDP: the kernel has BPF, and the unit a drop-in for it")
      }
      return .warning(
        subject, "AF_XDP needs CAP_BPF and the system call bpf, which gwd.service does not grant by itself",
        "systemctl edit gwd, with AmbientCapabilities=CAP_BPF, CapabilityBoundingSet=CAP_BPF, SystemCallFilter=bpf")
    }
  }

  /// What DPDK says of the ports, by way of a gateway that runs.
  private func runningPorts() -> [Finding] {
    (ports ?? []).flatMap { port -> [Finding] in
      let subject = "port \(port.name)"
      var findings: [Finding] = []
      if !port.linkUp { findings.append(.bad(subject, "no link", "gwctl show ports")) }
      let wanted = workers.count
      if Int(port.rxQueues) < wanted {
        findings.append(
          .warning(
            subject,
            "\(port.driver): \(port.rxQueues) of \(wanted) receive queues; other workers get its packets by hand-over",
            "in gateway.yaml, fewer workers: or a NIC with as many queues"))
      }
      if port.rxQueues > 1, port.espRules.isEmpty {
        findings.append(
          .warning(
            subject,
            "\(port.driver) does not spread ESP over its queues by SPI: all of a peer's may come to one worker",
            "gwctl show workers"))
      }
      if port.rxMissed > 0 {
        findings.append(
          .warning(subject, "\(port.rxMissed) packets came faster than the workers took them", "gwctl show workers"))
      }
      return findings.isEmpty ? [.good(subject, "\(port.driver), \(port.rxQueues) queues, link up")] : findings
    }
  }
}
