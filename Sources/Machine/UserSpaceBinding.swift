/// How a PCI device gets into the hands of a process on this machine.
public struct UserSpaceBinding: Sendable, Equatable {
  /// vfio-pci shields the machine from the device by an IOMMU.
  public var hasIOMMU: Bool
  /// vfio may hand out devices without one.
  public var allowsNoIOMMU: Bool
  public var hasVFIO: Bool

  private static let noIOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"

  public init(_ files: MachineFiles = MachineFiles()) {
    hasIOMMU = !files.names(in: "/sys/kernel/iommu_groups").isEmpty
    allowsNoIOMMU = files.text(Self.noIOMMU) == "Y"
    hasVFIO = files.exists("/sys/bus/pci/drivers/vfio-pci")
  }

  /// What makes vfio-pci work here before a device is bound to it; each is a command for root's shell.
  public var preparations: [String] {
    var commands: [String] = []
    if !hasIOMMU, !allowsNoIOMMU {
      commands.append("echo options vfio enable_unsafe_noiommu_mode=1 >/etc/modprobe.d/gw-vfio.conf")
      // The parameter of a module that is loaded already.
      commands.append("modprobe vfio && echo Y >\(Self.noIOMMU)")
    }
    if !hasVFIO { commands.append("modprobe vfio-pci") }
    return commands
  }

  /// Binds the device now and at each boot: Debian's driverctl keeps it in /etc/driverctl.d.
  public func commands(for address: String) -> [String] {
    preparations + ["driverctl set-override \(address) vfio-pci"]
  }

  /// In one line, for a message.
  public func advice(for address: String) -> String {
    let commands = commands(for: address).joined(separator: "; ")
    let remedy = "run: \(commands) (Debian's package driverctl; it lasts over reboots)"
    guard !hasIOMMU else { return remedy }
    return remedy + "; this machine has no IOMMU: turn VT-d or AMD-Vi on in its firmware and boot with intel_iommu=on, "
      + "or the NIC can write to any memory"
  }
}
