import ArgumentParser
import ControlAPI
import Foundation
import Machine

struct Setup: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes network cards of this machine into service.",
    discussion: """
      Asks which card faces the internet and which the LAN, shows what would be done, and does it once you have said yes: \
      the cards' addresses move to gateway.yaml, the cards to vfio-pci, hugepages are reserved, gwd is enabled and \
      started. If gwd does not come up within a minute, everything is taken back; --undo takes it back later.

      A card that carries an ssh session is taken only if it is named a second time.
      """)

  @OptionGroup var global: GlobalOptions

  @Option(help: "The card that faces the internet: a PCI address or an interface.")
  var wan: String?

  @Option(help: "The card that faces the LAN.")
  var lan: String?

  @Option(help: "The cores that poll, such as 2-3 (default: all but the first).")
  var workers: String?

  @Option(help: "MiB of hugepages.")
  var hugepages = 1024

  @Flag(
    help: "Also keep other programs off the workers' cores, from the next boot on (isolcpus, nohz_full, rcu_nocbs).")
  var kernelCommandLine = false

  @Option(
    name: .customLong("take-ssh-card"),
    help: "A card that may be taken although it carries an ssh session: its name a second time.")
  var takeSSHCard: String?

  @Flag(name: [.customShort("y"), .long], help: "Do not ask; --wan and --lan are needed.")
  var yes = false

  @Flag(help: "Only show what would be done.")
  var plan = false

  @Flag(help: "Take back what the last setup did.")
  var undo = false

  func run() throws {
    guard geteuid() == 0 || plan else { throw Failure(.noPermission, ["setup is root's"]) }
    let files = MachineFiles()
    var runner = SetupRunner(files: files, commands: .system) { Terminal.standard.write("  \($0)\n") }
    if undo {
      guard try runner.undoLast() else { throw Failure(.failure, ["there is no setup that could be taken back"]) }
      return
    }
    guard plan || !files.exists(SetupRunner.journal) else {
      throw Failure(
        .failure, ["setup was done already: gwctl setup --undo takes it back; or edit \(SetupPlan.gateway)"])
    }
    let inventory = Inventory(files, .system, environment: ProcessInfo.processInfo.environment)
    let choice = try SetupDialogue(options: self, inventory: inventory, files: files).choice()
    let plan = SetupPlan(choice, files: files)
    Terminal.standard.write("\nThis will be done:\n\n" + plan.steps.map { "  \($0.text)\n" }.joined() + "\n")
    if self.plan { return }
    guard yes || SetupDialogue.confirms("Do it?") else { throw Failure(.failure, ["nothing was changed"]) }
    // The session may end with the card that carries it; the way back must not.
    signal(SIGHUP, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    let client = global.client
    runner.isGatewayUp = { (try? client.status())?.state == .running }
    do { try runner.run(plan) } catch { throw Failure(.failure, ["everything is as it was"]) }
    Terminal.standard.write(
      "The gateway runs. Next: tunnels in \(SetupPlan.rules), then systemctl reload gwd; gwctl doctor.\n")
  }
}

/// The questions of setup.
struct SetupDialogue {
  let options: Setup
  let inventory: Inventory
  let files: MachineFiles
  /// Nil: the end of input.
  var ask: (String) -> String? = { question in
    Terminal.standard.write(question + " ")
    Terminal.standard.flush()
    return readLine()
  }

  func choice() throws(Failure) -> SetupChoice {
    guard inventory.nics.count >= 2 else {
      throw Failure(.failure, ["a gateway needs two PCI network cards; this machine has \(inventory.nics.count)"])
    }
    if !options.yes {
      let list = inventory.nics.enumerated().map { "  \($0.offset + 1)  \($0.element.summary)\n" }.joined()
      Terminal.standard.write("Network cards:\n\n\(list)\n")
    }
    let wan = try card(options.wan, "Which one faces the internet?", option: "--wan")
    let lan = try card(options.lan, "Which one faces the LAN?", option: "--lan")
    guard wan.address != lan.address else { throw Failure(.failure, ["\(wan.address) cannot be both"]) }
    for nic in [wan, lan] { try guardSession(nic) }
    let online = CoreList(files.text("/sys/devices/system/cpu/online") ?? "0").cores.sorted()
    let workers =
      options.workers.map { CoreList($0).cores.sorted() } ?? (online.count > 1 ? Array(online.dropFirst()) : online)
    guard !workers.isEmpty, workers.allSatisfy(online.contains) else {
      throw Failure(.failure, ["--workers: this machine has cores \(CoreList(Set(online)).text)"])
    }
    return SetupChoice(
      ports: [.init(name: "wan", nic: wan), .init(name: "lan", nic: lan)], workers: workers,
      hugepages: options.hugepages,
      keyDaemon: files.exists("/usr/lib/gw/libikeshim.so") ? KeyDaemonUnit.installed(files).first : nil,
      changesKernelCommandLine: options.kernelCommandLine)
  }

  private func card(_ name: String?, _ question: String, option: String) throws(Failure) -> NIC {
    if let name {
      guard let nic = inventory.find(name) else {
        throw Failure(.failure, ["\(option): there is no network card \(name)"])
      }
      return nic
    }
    guard !options.yes else { throw Failure(.failure, ["--yes needs \(option)"]) }
    for _ in 0..<5 {
      guard let answer = ask(question)?.trimmed else { break }
      if let number = Int(answer), inventory.nics.indices.contains(number - 1) { return inventory.nics[number - 1] }
      if let nic = inventory.find(answer) { return nic }
      Terminal.standard.write("A number of the list, an interface or a PCI address.\n")
    }
    throw Failure(.failure, ["nothing was chosen, and nothing was changed"])
  }

  /// Never silently: the card's name once more, on the command line or by hand.
  private func guardSession(_ nic: NIC) throws(Failure) {
    guard !nic.sshPeers.isEmpty else { return }
    let peers = nic.sshPeers.joined(separator: ", ")
    if let named = options.takeSSHCard, inventory.find(named)?.address == nic.address { return }
    if !options.yes {
      let answer = ask(
        "\(nic.summary)\nIf the gateway does not route ssh, you are locked out. Type \(nic.address) again to take it:")
      if answer?.trimmed == nic.address { return }
    }
    throw Failure(
      .failure,
      ["\(nic.address) carries the ssh session from \(peers); --take-ssh-card \(nic.address) takes it all the same"])
  }

  static func confirms(_ question: String) -> Bool {
    Terminal.standard.write("\(question) [yes/no] ")
    Terminal.standard.flush()
    return readLine()?.lowercased().hasPrefix("y") ?? false
  }
}
