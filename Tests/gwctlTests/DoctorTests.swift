import ConfigurationFiles
import ControlAPI
import Foundation
import Machine
import MachineTesting
import Testing

@testable import gwctl

@Suite struct DoctorTests {
  static let yaml = """
    workers: [2, 3]
    ports:
      - {name: wan, device: "0000:03:00.0", host: true, addresses: [192.0.2.1/24]}
      - {name: lan, device: "0000:04:00.0", host: true, addresses: [198.51.100.1/24]}
    """

  /// A machine on which all is well.
  static func goodMachine() throws -> FakeRoot {
    let root = try FakeRoot([
      "/sys/devices/system/cpu/online": "0-3\n",
      "/sys/devices/system/node/node0/cpulist": "0-3\n",
      "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "512\n",
      "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
      "/proc/cmdline": "quiet hugepages=512 isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\n",
      "/sys/bus/pci/drivers/vfio-pci/new_id": "",
      "/dev/vfio/1": "", "/dev/vfio/2": "",
      "/etc/driverctl.d/pci-0000:03:00.0": "vfio-pci\n", "/etc/driverctl.d/pci-0000:04:00.0": "vfio-pci\n",
      "/sys/module/apparmor/parameters/enabled": "Y\n",
      "/usr/sbin/charon-systemd": "", "/usr/lib/gw/libikeshim.so": "",
      "/lib/systemd/system/strongswan.service.d/gw.conf": "",
      "/etc/systemd/system/gwd.service.wants/strongswan.service": "",
    ])
    for (index, address) in ["0000:03:00.0", "0000:04:00.0"].enumerated() {
      let device = "/sys/bus/pci/devices/\(address)"
      try root.write(device + "/class", "0x020000\n")
      try root.write(device + "/numa_node", "0\n")
      try root.link(device + "/driver", "../../../bus/pci/drivers/vfio-pci")
      try root.link(device + "/iommu_group", "../../../kernel/iommu_groups/\(index + 1)")
      try root.write("/sys/kernel/iommu_groups/\(index + 1)/type", "DMA\n")
    }
    return root
  }

  static let goodAnswers = [
    "systemctl show gwd -p ActiveState -p UnitFileState -p StatusText -p ExecMainStatus":
      "ActiveState=active\nUnitFileState=enabled\nStatusText=2 SAs\nExecMainStatus=0\n",
    "systemctl show gwd -p LimitMEMLOCK --value": "infinity\n",
    "journalctl -k --since -1h -o cat --no-pager": "all is well\n",
    "ip xfrm policy": "", "ip xfrm state": "", "nft list ruleset": "",
  ]

  static func findings(
    _ root: FakeRoot, yaml: String = yaml, answers: [String: String] = [:]
  ) throws -> [Finding] {
    let all = goodAnswers.merging(answers) { $1 }
    let commands = Commands { words in
      all[words.joined(separator: " ")].map { Commands.Outcome(status: 0, output: $0) } ?? .init(status: 127)
    }
    var examination = Examination(files: root.files, commands: commands)
    let file = root.path + "/gateway.yaml"
    try yaml.write(toFile: file, atomically: false, encoding: .utf8)
    examination.configuration = try GatewayConfiguration(contentsOf: file)
    return examination.findings()
  }

  /// The one finding of a subject that is not good.
  static func complaint(_ findings: [Finding], _ subject: String) -> Finding? {
    findings.first { $0.subject == subject && $0.level != .good }
  }

  @Test func aGoodMachine() throws {
    let findings = try Self.findings(Self.goodMachine())
    #expect(findings.filter { $0.level != .good } == [])
    #expect(findings.count > 10)
    #expect(Doctor.text(findings).hasSuffix(" good, 0 warnings, 0 bad\n"))
    let decoded = try JSONDecoder().decode([Finding].self, from: Data(Doctor.json(findings).utf8))
    #expect(decoded == findings)
  }

  @Test func cards() throws {
    let root = try Self.goodMachine()
    let driver = root.path + "/sys/bus/pci/devices/0000:03:00.0/driver"
    try FileManager.default.removeItem(atPath: driver)
    try root.link("/sys/bus/pci/devices/0000:03:00.0/driver", "../../drivers/ixgbe")
    try FileManager.default.removeItem(atPath: root.path + "/etc/driverctl.d/pci-0000:04:00.0")
    try root.write("/sys/bus/pci/devices/0000:04:00.0/numa_node", "1\n")
    try root.write("/sys/devices/system/node/node1/cpulist", "4-7\n")
    let findings = try Self.findings(root)
    let held = try #require(Self.complaint(findings, "nic 0000:03:00.0"))
    #expect(held.level == .bad && held.remedy == "driverctl set-override 0000:03:00.0 vfio-pci")
    let other = findings.filter { $0.subject == "nic 0000:04:00.0" && $0.level == .warning }
    #expect(other.count == 2)
    #expect(other.contains { $0.text.contains("reboot") } && other.contains { $0.text.contains("NUMA node 1") })
    // Its node has no hugepages either.
    #expect(Self.complaint(findings, "hugepages")?.level == .bad)
  }

  @Test func noIOMMU() throws {
    let root = try Self.goodMachine()
    try FileManager.default.removeItem(atPath: root.path + "/sys/kernel/iommu_groups")
    let finding = try #require(Self.complaint(Self.findings(root), "nic 0000:03:00.0"))
    #expect(finding.text.contains("CAP_SYS_RAWIO") && finding.remedy?.contains("intel_iommu=on") == true)
  }

  @Test func memory() throws {
    let root = try Self.goodMachine()
    try root.write("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "0\n")
    var finding = try #require(Self.complaint(Self.findings(root), "hugepages"))
    #expect(finding.level == .bad && finding.remedy?.contains("vm.nr_hugepages=256") == true)
    try root.write("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "512\n")
    try root.write("/proc/cmdline", "isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3\n")
    finding = try #require(Self.complaint(Self.findings(root), "hugepages"))
    #expect(finding.level == .warning && finding.text.contains("next boot"))
    try root.write("/etc/sysctl.d/1.conf", "vm.nr_hugepages = 512\n")
    #expect(try Self.complaint(Self.findings(root), "hugepages") == nil)
    let answers = ["systemctl show gwd -p LimitMEMLOCK --value": "8388608\n"]
    #expect(try Self.complaint(Self.findings(root, answers: answers), "memlock")?.level == .bad)
  }

  @Test func cores() throws {
    let root = try Self.goodMachine()
    try root.write("/proc/cmdline", "hugepages=512 isolcpus=managed_irq,domain,2-3 nohz_full=2\n")
    let isolation = try #require(Self.complaint(Self.findings(root), "isolation"))
    #expect(isolation.text.hasPrefix("nohz_full, rcu_nocbs do not cover"))
    try root.write("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3\n")
    #expect(try Self.complaint(Self.findings(root), "smt")?.text.contains("share one core") == true)
    try root.write("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n")
    #expect(try Self.complaint(Self.findings(root), "governor")?.remedy?.contains("-c 2 ") == true)
    try root.write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")
    #expect(try Self.complaint(Self.findings(root), "clock")?.text.contains("hpet") == true)
    let more = try Self.findings(root, yaml: Self.yaml.replacingOccurrences(of: "[2, 3]", with: "[7]"))
    #expect(Self.complaint(more, "workers")?.level == .bad)
  }

  @Test func unitAndKernel() throws {
    let root = try Self.goodMachine()
    let answers = [
      "systemctl show gwd -p ActiveState -p UnitFileState -p StatusText -p ExecMainStatus":
        "ActiveState=failed\nUnitFileState=disabled\nExecMainStatus=78\n",
      "journalctl -k --since -1h -o cat --no-pager":
        "audit: apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/sbin/swanctl\" name=\"/usr/lib/gw/libikeshim.so\"\n",
      "ip xfrm policy": "src 10.0.0.0/8 dst 10.1.0.0/16 \n\tdir out priority 1\n",
      "nft list ruleset": "table inet filter { chain input { type filter hook input priority 0; policy drop; } }\n",
    ]
    let findings = try Self.findings(root, answers: answers)
    #expect(findings.contains { $0.subject == "gwd" && $0.level == .bad && $0.text.contains("78") })
    #expect(findings.contains { $0.subject == "gwd" && $0.remedy == "systemctl enable gwd" })
    #expect(Self.complaint(findings, "apparmor")?.text.hasPrefix("1 denials") == true)
    #expect(Self.complaint(findings, "kernel ipsec")?.text.contains("1 policies") == true)
    #expect(Self.complaint(findings, "firewall")?.text.contains("wan, lan") == true)
  }

  @Test func keyDaemons() throws {
    let root = try Self.goodMachine()
    try FileManager.default.removeItem(atPath: root.path + "/lib/systemd/system/strongswan.service.d")
    #expect(try Self.complaint(Self.findings(root), "key daemon strongswan")?.remedy == "apt install gw-ikeshim")
  }

  @Test func openFiles() throws {
    let root = try Self.goodMachine()
    try root.write("/etc/gw/ipsec.conf", "")
    chmod(root.path + "/etc/gw/ipsec.conf", 0o644)
    #expect(try Self.complaint(Self.findings(root), "files")?.level == .bad)
    chmod(root.path + "/etc/gw/ipsec.conf", 0o640)
    #expect(try Self.complaint(Self.findings(root), "files") == nil)
  }
}
