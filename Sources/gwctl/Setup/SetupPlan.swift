import Foundation
import Machine

/// What the operator wants.
struct SetupChoice: Equatable {
  struct Port: Equatable {
    var name: String
    var nic: NIC
  }

  var ports: [Port]
  var workers: [Int]
  /// MiB.
  var hugepages: Int
  var keyDaemon: KeyDaemonUnit?
  /// isolcpus and its like, at the next boot.
  var changesKernelCommandLine = false
}

/// What is done for it, in order.
struct SetupPlan: Equatable {
  var steps: [SetupStep]

  static let gateway = "/etc/gw/gateway.yaml"
  static let rules = "/etc/gw/ipsec.conf"
  static let dropIn = "/etc/systemd/system/gwd.service.d/50-setup.conf"

  init(_ choice: SetupChoice, files: MachineFiles) {
    steps = Self.files(choice, files) + Self.memory(choice) + Self.binding(choice, files)
    if choice.changesKernelCommandLine { steps += Self.kernelCommandLine(choice, files) }
    steps += Self.units(choice)
  }

  private static func files(_ choice: SetupChoice, _ files: MachineFiles) -> [SetupStep] {
    var steps = [SetupStep.write(gateway, yaml(choice), mode: 0o640, "the ports, with the cards' addresses and routes")]
    if !files.exists(rules) {
      steps.append(.write(rules, "# Rules for SAs and policies: see ipsec.conf(5).\n", mode: 0o640, "no rules yet"))
    }
    return steps
  }

  private static func memory(_ choice: SetupChoice) -> [SetupStep] {
    let path = "/etc/sysctl.d/90-gw-hugepages.conf"
    let pages = (choice.hugepages + 1) / 2
    return [
      .write(
        path, "# For gwd: \(choice.hugepages) MiB.\nvm.nr_hugepages = \(pages)\n", "hugepages, now and at each boot"),
      .run("sysctl -q -p \(path)", "reserves them"),
    ]
  }

  /// The cards leave the kernel here. A step's undo gives a card back with what it had.
  private static func binding(_ choice: SetupChoice, _ files: MachineFiles) -> [SetupStep] {
    let binding = UserSpaceBinding(files)
    var steps = [SetupStep.write("/etc/modules-load.d/gw.conf", "vfio-pci\n", "the driver that hands cards to gwd")]
    if !binding.hasIOMMU {
      steps += [
        .write(
          "/etc/modprobe.d/gw-vfio.conf", "options vfio enable_unsafe_noiommu_mode=1\n",
          "this machine has no IOMMU, so a card can write to any memory"),
        .write(
          dropIn, "[Service]\nAmbientCapabilities=CAP_SYS_RAWIO\nCapabilityBoundingSet=CAP_SYS_RAWIO\n",
          "what a card without an IOMMU takes"),
        .run("modprobe vfio enable_unsafe_noiommu_mode=1", "loads the driver"),
        .write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n", "if it was loaded already"),
      ]
    }
    steps.append(.run("modprobe vfio-pci", "loads the driver"))
    for port in choice.ports where !port.nic.device.isBifurcated {
      steps.append(
        SetupStep(
          text:
            "driverctl set-override \(port.nic.address) vfio-pci: \(port.name) leaves the kernel, now and at each boot",
          action: .run(["driverctl", "set-override", port.nic.address, "vfio-pci"]), undo: giveBack(port.nic)))
    }
    return steps
  }

  private static func giveBack(_ nic: NIC) -> [[String]] {
    var commands = [["driverctl", "unset-override", nic.address]]
    guard let name = nic.interface else { return commands }
    // The kernel may have given it another name meanwhile.
    let folder = "/sys/bus/pci/devices/\(nic.address)"
    var script = "n=0; while [ $n -lt 40 ]; do "
    script += "i=$(ls \(folder)/net \(folder)/virtio*/net 2>/dev/null | grep -v -e : -e '^$' | head -n 1); "
    script += "[ -n \"$i\" ] && break; sleep 0.5; n=$((n+1)); done; "
    script += "[ \"$i\" = \(name) ] || ip link set \"$i\" name \(name); ip link set \(name) up"
    for address in nic.addresses { script += "; ip address replace \(address) dev \(name)" }
    for gateway in nic.gateways {
      script += "; ip \(gateway.contains(":") ? "-6 " : "")route replace default via \(gateway) dev \(name)"
    }
    commands.append(["sh", "-c", script])
    return commands
  }

  private static func kernelCommandLine(_ choice: SetupChoice, _ files: MachineFiles) -> [SetupStep] {
    let cores = CoreList(Set(choice.workers)).text
    let vendor = files.text("/proc/cpuinfo")?.contains("AuthenticAMD") == true ? "amd_iommu=on" : "intel_iommu=on"
    let words = "\(vendor) iommu=pt isolcpus=\(cores) nohz_full=\(cores) rcu_nocbs=\(cores)"
    return [
      .write(
        "/etc/default/grub.d/gw.cfg", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX \(words)\"\n",
        "the workers' cores for themselves, from the next boot on"),
      .run("update-grub", "takes it over", undo: ["update-grub"]),
    ]
  }

  private static func units(_ choice: SetupChoice) -> [SetupStep] {
    var steps = [
      SetupStep.run("systemd-tmpfiles --create /usr/lib/tmpfiles.d/gw.conf", "owners and modes", isOptional: true),
      .run("systemctl daemon-reload", "takes the unit's settings over", undo: ["systemctl daemon-reload"]),
      .run("systemctl enable gwd", "at each boot", undo: ["systemctl disable gwd"]),
    ]
    if let daemon = choice.keyDaemon {
      let unit = "\(daemon.unit).service"
      steps.append(
        .run(
          "systemctl add-wants gwd.service \(unit)", "the key daemon comes and goes with it",
          undo: ["rm -f /etc/systemd/system/gwd.service.wants/\(unit)", "systemctl daemon-reload"]))
    }
    // A start in the foreground would wait for as long as the unit may take.
    steps.append(.run("systemctl --no-block restart gwd", "starts the gateway", undo: ["systemctl stop gwd"]))
    return steps
  }

  // MARK: gateway.yaml

  static func yaml(_ choice: SetupChoice) -> String {
    var lines = [
      "# Made by gwctl setup; see gateway.yaml(5).",
      "workers: [\(choice.workers.map(String.init).joined(separator: ", "))]",
    ]
    lines += ["memory: \(choice.hugepages)", "ports:"]
    for port in choice.ports {
      lines += ["  - name: \(port.name)", "    device: \"\(port.nic.address)\"", "    host: true"]
      if !port.nic.addresses.isEmpty {
        lines.append("    addresses: [\(port.nic.addresses.map { "\"\($0)\"" }.joined(separator: ", "))]")
      }
    }
    let routes = choice.ports.flatMap { port in port.nic.gateways }
    if !routes.isEmpty {
      lines.append("routes:")
      lines += routes.filter { !$0.hasPrefix("fe80:") }.map {
        "  - {to: \"\($0.contains(":") ? "::/0" : "0.0.0.0/0")\", via: \"\($0)\"}"
      }
    }
    lines.append("ipsec: \(rules)")
    if let daemon = choice.keyDaemon, let name = ["openiked": "iked", "ipsec": "none"][daemon.unit] {
      lines.append("ike: {daemon: \(name)}")
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
