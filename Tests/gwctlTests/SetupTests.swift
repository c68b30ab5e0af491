import ConfigurationFiles
import Foundation
import Machine
import MachineTesting
import Synchronization
import Testing

@testable import gwctl

@Suite struct SetupTests {
  /// Commands that were run, with the answers that a machine would give.
  final class Log: Sendable {
    private let lines = Mutex<[String]>([])
    let failing: String

    init(failing: String = "-") { self.failing = failing }

    var all: [String] { lines.withLock { $0 } }

    var commands: Commands {
      Commands { words in
        let line = words.joined(separator: " ")
        self.lines.withLock { $0.append(line) }
        return Commands.Outcome(
          status: line.hasPrefix(self.failing) ? 1 : 0, output: line.hasPrefix(self.failing) ? "no" : "")
      }
    }
  }

  static let links = """
    [{"ifname":"eth0","flags":["UP","LOWER_UP"],"addr_info":[{"local":"192.0.2.7","prefixlen":24,"scope":"global"},
      {"local":"fe80::1","prefixlen":64,"scope":"link"}]},
     {"ifname":"eth1","flags":[],"addr_info":[{"local":"2001:db8::7","prefixlen":64,"scope":"global"}]}]
    """

  static func machine(iommu: Bool = true) throws -> FakeRoot {
    let root = try FakeRoot(["/sys/devices/system/cpu/online": "0-3\n", "/sys/class/net/eth0/speed": "10000\n"])
    for (index, address) in ["0000:03:00.0", "0000:03:00.1", "0000:04:00.0"].enumerated() {
      let device = "/sys/bus/pci/devices/\(address)"
      try root.write(device + "/class", "0x020000\n")
      try root.write(device + "/net/eth\(index)/address", "02:00:00:00:00:0\(index)\n")
      try root.link(device + "/driver", "../../drivers/ixgbe")
    }
    if iommu { try root.write("/sys/kernel/iommu_groups/1/type", "DMA\n") }
    return root
  }

  static func inventory(_ root: FakeRoot, ssh: String? = nil, sockets: String = "") -> Inventory {
    let commands = Commands { words in
      switch words.joined(separator: " ") {
      case "ip -j address": .init(status: 0, output: links)
      case "ip -j route": .init(status: 0, output: "[{\"dst\":\"default\",\"gateway\":\"192.0.2.1\",\"dev\":\"eth0\"}]")
      case let line where line.hasPrefix("ss "): .init(status: 0, output: sockets)
      default: .init(status: 1)
      }
    }
    return Inventory(root.files, commands, environment: ssh.map { ["SSH_CONNECTION": $0] } ?? [:])
  }

  static func choice(_ inventory: Inventory) throws -> SetupChoice {
    SetupChoice(
      ports: [
        .init(name: "wan", nic: try #require(inventory.find("eth0"))),
        .init(name: "lan", nic: try #require(inventory.find("eth1"))),
      ], workers: [2, 3], hugepages: 1024, keyDaemon: KeyDaemonUnit.all[0])
  }

  // MARK: Choosing

  @Test func whatHangsOnACard() throws {
    let inventory = Self.inventory(try Self.machine(), ssh: "203.0.113.5 50000 192.0.2.7 22")
    let nic = try #require(inventory.find("03:00.0"))
    #expect(nic.interface == "eth0" && nic.isUp && nic.speed == 10000)
    #expect(nic.addresses == ["192.0.2.7/24"] && nic.gateways == ["192.0.2.1"] && nic.sshPeers == ["203.0.113.5"])
    #expect(inventory.find("eth1")?.sshPeers == [] && inventory.find("eth9") == nil)
  }

  /// sudo takes SSH_CONNECTION away.
  @Test func sshBySockets() throws {
    let sockets = "0 0 192.0.2.7:22 203.0.113.5:50000\n0 0 [2001:db8::7]:22 [2001:db8::99]:40000\n"
    let inventory = Self.inventory(try Self.machine(), sockets: sockets)
    #expect(inventory.find("eth0")?.sshPeers == ["203.0.113.5"])
    #expect(inventory.find("eth1")?.sshPeers == ["2001:db8::99"])
  }

  static func dialogue(_ root: FakeRoot, _ arguments: [String], answers: [String] = [], ssh: String? = nil) throws
    -> SetupDialogue
  {
    var rest = answers
    return SetupDialogue(options: try Setup.parse(arguments), inventory: inventory(root, ssh: ssh), files: root.files) {
      _ in
      rest.isEmpty ? nil : rest.removeFirst()
    }
  }

  @Test func flags() throws {
    let root = try Self.machine()
    let choice = try Self.dialogue(root, ["--yes", "--wan", "eth0", "--lan", "0000:03:00.1", "--workers", "3"]).choice()
    #expect(choice.ports.map(\.nic.address) == ["0000:03:00.0", "0000:03:00.1"] && choice.workers == [3])
    for bad in [
      ["--yes", "--wan", "eth0"], ["--yes", "--wan", "eth0", "--lan", "eth0"], ["--yes", "--wan", "x", "--lan", "y"],
    ] {
      #expect(throws: Failure.self) { try Self.dialogue(root, bad).choice() }
    }
    #expect(throws: Failure.self) {
      try Self.dialogue(root, ["--yes", "--wan", "eth0", "--lan", "eth1", "--workers", "8"]).choice()
    }
  }

  @Test func questions() throws {
    let root = try Self.machine()
    let choice = try Self.dialogue(root, [], answers: ["7", "1", "eth1"]).choice()
    #expect(choice.ports.map(\.nic.interface) == ["eth0", "eth1"] && choice.workers == [1, 2, 3])
    #expect(throws: Failure.self) { try Self.dialogue(root, [], answers: ["1"]).choice() }
  }

  @Test func theCardOfTheSession() throws {
    let root = try Self.machine()
    let ssh = "203.0.113.5 50000 192.0.2.7 22"
    let both = ["--wan", "eth0", "--lan", "eth1"]
    #expect(throws: Failure.self) { try Self.dialogue(root, ["--yes"] + both, ssh: ssh).choice() }
    #expect(throws: Failure.self) {
      try Self.dialogue(root, ["--yes", "--take-ssh-card", "eth1"] + both, ssh: ssh).choice()
    }
    #expect(throws: Failure.self) { try Self.dialogue(root, both, answers: ["yes"], ssh: ssh).choice() }
    #expect(throws: Never.self) {
      _ = try Self.dialogue(root, ["--yes", "--take-ssh-card", "eth0"] + both, ssh: ssh).choice()
      _ = try Self.dialogue(root, both, answers: ["0000:03:00.0"], ssh: ssh).choice()
    }
  }

  // MARK: The plan

  @Test func gatewayYAML() throws {
    let root = try Self.machine()
    let text = SetupPlan.yaml(try Self.choice(Self.inventory(root)))
    try root.write("/gateway.yaml", text)
    let configuration = try GatewayConfiguration(contentsOf: root.path + "/gateway.yaml")
    #expect(configuration.ports.map(\.device) == ["0000:03:00.0", "0000:03:00.1"])
    #expect(configuration.ports.allSatisfy(\.host) && configuration.workers == [2, 3] && configuration.memory == 1024)
    #expect(configuration.ports[0].addresses.count == 1 && configuration.ports[1].addresses.count == 1)
    #expect(configuration.routes.count == 1)
  }

  @Test func withAndWithoutIOMMU() throws {
    let good = try Self.machine()
    let plan = SetupPlan(try Self.choice(Self.inventory(good)), files: good.files)
    #expect(!plan.steps.contains { $0.text.contains("noiommu") || $0.text.contains("50-setup") })
    let bare = try Self.machine(iommu: false)
    let other = SetupPlan(try Self.choice(Self.inventory(bare)), files: bare.files)
    #expect(other.steps.contains { $0.text.contains("50-setup.conf") })
  }

  // MARK: Doing it

  static func runner(_ root: FakeRoot, _ log: Log, isUp: Bool) -> SetupRunner {
    var runner = SetupRunner(files: root.files, commands: log.commands) { _ in }
    runner.isGatewayUp = { isUp }
    runner.pause = {}
    runner.attempts = 3
    return runner
  }

  @Test func done() throws {
    let root = try Self.machine()
    let log = Log()
    let plan = SetupPlan(try Self.choice(Self.inventory(root)), files: root.files)
    try Self.runner(root, log, isUp: true).run(plan)
    #expect(root.text("/etc/gw/gateway.yaml")?.contains("0000:03:00.0") == true)
    #expect(root.text("/etc/sysctl.d/90-gw-hugepages.conf")?.contains("= 512") == true)
    let order = [
      "modprobe vfio-pci", "driverctl set-override 0000:03:00.0 vfio-pci", "systemctl --no-block restart gwd",
    ]
    #expect(log.all.filter { order.contains($0) } == order)
    // Later, by hand.
    #expect(try Self.runner(root, log, isUp: true).undoLast())
    #expect(root.text("/etc/gw/gateway.yaml") == nil && log.all.contains("driverctl unset-override 0000:03:00.1"))
    #expect(try !Self.runner(root, log, isUp: true).undoLast())
  }

  /// The cards come back with what they had, and files as they were.
  @Test(arguments: ["-", "driverctl set-override 0000:03:00.1"]) func takenBack(failing: String) throws {
    let root = try Self.machine()
    try root.write("/etc/gw/gateway.yaml", "# mine\n")
    let log = Log(failing: failing)
    let plan = SetupPlan(try Self.choice(Self.inventory(root)), files: root.files)
    #expect(throws: SetupRunner.StepFailed.self) { try Self.runner(root, log, isUp: false).run(plan) }
    #expect(root.text("/etc/gw/gateway.yaml") == "# mine\n")
    #expect(root.text("/etc/sysctl.d/90-gw-hugepages.conf") == nil && root.text("/etc/gw/ipsec.conf") == nil)
    let unset = try #require(log.all.firstIndex(of: "driverctl unset-override 0000:03:00.0"))
    let readdressed = try #require(log.all.firstIndex { $0.contains("ip address replace 192.0.2.7/24 dev eth0") })
    #expect(unset < readdressed && log.all[readdressed].contains("route replace default via 192.0.2.1"))
    if failing != "-" { #expect(!log.all.contains("systemctl --no-block restart gwd")) }
  }
}
