import MachineTesting
import Testing

@testable import Machine

@Suite struct MachineTests {
  static let device = "/sys/bus/pci/devices/0000:03:00.0"

  static func nic(driver: String? = "e1000e", group: String? = nil) throws -> FakeRoot {
    let root = try FakeRoot([
      device + "/class": "0x020000\n", device + "/vendor": "0x8086\n", device + "/device": "0x10d3\n",
      device + "/numa_node": "1\n",
    ])
    if let driver { try root.link(device + "/driver", "../../../bus/pci/drivers/\(driver)") }
    if let group {
      try root.link(device + "/iommu_group", "../../../kernel/iommu_groups/\(group)")
      try root.write("/sys/kernel/iommu_groups/\(group)/type", "DMA\n")
    }
    return root
  }

  @Test func aNICOfTheKernel() throws {
    let root = try Self.nic()
    try root.write(Self.device + "/net/eth0/address", "02:00:00:00:00:01\n")
    let device = try #require(PCIDevice("0000:03:00.0", files: root.files))
    #expect(device.driver == "e1000e" && device.interfaces == ["eth0"] && device.numaNode == 1)
    #expect(device.iommuGroup == nil && !device.isForUserSpace)
    #expect(PCIDevice.networkDevices(root.files) == [device])
    #expect(PCIDevice("0000:03:00.1", files: root.files) == nil)
  }

  @Test func anInterfaceOfVirtio() throws {
    let root = try Self.nic(driver: "virtio-pci")
    try root.write(Self.device + "/virtio1/net/ens3/address", "02:00:00:00:00:01\n")
    #expect(PCIDevice("0000:03:00.0", files: root.files)?.interfaces == ["ens3"])
  }

  @Test func otherDevicesAreNoNICs() throws {
    let root = try FakeRoot([Self.device + "/class": "0x010802\n"])
    #expect(PCIDevice.networkDevices(root.files).isEmpty)
  }

  @Test func bindingWithAnIOMMU() throws {
    let root = try Self.nic(group: "7")
    #expect(
      UserSpaceBinding(root.files).commands(for: "0000:03:00.0") == [
        "modprobe vfio-pci", "driverctl set-override 0000:03:00.0 vfio-pci",
      ])
    try root.write("/sys/bus/pci/drivers/vfio-pci/new_id", "")
    let advice = UserSpaceBinding(root.files).advice(for: "0000:03:00.0")
    #expect(advice.contains("driverctl set-override 0000:03:00.0 vfio-pci") && !advice.contains("no IOMMU"))
  }

  @Test func bindingWithoutAnIOMMU() throws {
    let root = try Self.nic()
    let binding = UserSpaceBinding(root.files)
    #expect(binding.preparations.contains { $0.contains("enable_unsafe_noiommu_mode=1") })
    #expect(binding.advice(for: "0000:03:00.0").contains("intel_iommu=on"))
    try root.write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
    #expect(!UserSpaceBinding(root.files).preparations.contains { $0.contains("noiommu") })
  }

  @Test func capabilities() throws {
    let root = try FakeRoot(["/proc/self/status": "Name:\tgwd\nCapPrm:\t0\nCapEff:\t0000000000003000\n"])
    #expect(Capability.effective(root.files) == [.netAdmin, .netRaw])
  }
}
