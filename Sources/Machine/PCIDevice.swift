/// A PCI device as sysfs describes it.
public struct PCIDevice: Sendable, Equatable {
  public var address: String
  /// The kernel's driver that is bound to it.
  public var driver: String?
  /// Of the kernel's network interfaces.
  public var interfaces: [String]
  /// -1: the machine has but one node, or does not say.
  public var numaNode: Int
  public var iommuGroup: String?
  public var vendor: String
  public var device: String
  /// The PCI class, 0x020000 for Ethernet.
  public var classCode: String

  static let folder = "/sys/bus/pci/devices"

  /// Nil: there is no such device.
  public init?(_ address: String, files: MachineFiles = MachineFiles()) {
    let path = "\(Self.folder)/\(address)"
    guard files.exists(path) else { return nil }
    self.address = address
    driver = files.linkTarget(path + "/driver")
    // virtio's interfaces hang below its own bus.
    let virtio = files.names(in: path).filter { $0.hasPrefix("virtio") }.map { "\(path)/\($0)/net" }
    interfaces = ([path + "/net"] + virtio).flatMap { files.names(in: $0) }
    numaNode = files.integer(path + "/numa_node") ?? -1
    iommuGroup = files.linkTarget(path + "/iommu_group")
    vendor = files.text(path + "/vendor") ?? ""
    device = files.text(path + "/device") ?? ""
    classCode = files.text(path + "/class") ?? ""
  }

  /// The machine's network controllers.
  public static func networkDevices(_ files: MachineFiles = MachineFiles()) -> [PCIDevice] {
    files.names(in: folder).compactMap { PCIDevice($0, files: files) }.filter { $0.classCode.hasPrefix("0x02") }
  }

  /// Drivers that share the device with the kernel's: DPDK takes it as it is.
  public static let bifurcated = ["mlx4_core", "mlx5_core"]
  /// Drivers that hand the device to a process.
  public static let userSpace = ["vfio-pci", "igb_uio", "uio_pci_generic"]

  public var isForUserSpace: Bool { driver.map { Self.userSpace.contains($0) } ?? false }
  public var isBifurcated: Bool { driver.map { Self.bifurcated.contains($0) } ?? false }
}
