import Foundation

/// How DPDK's environment is to start. A plain value.
public struct EALConfiguration: Sendable, Equatable {
  /// Passed on as they are, after the gateway's own.
  public var extraArguments: [String] = []
  /// False: ordinary memory, `memory` megabytes of it, taken at start.
  public var hugepages = true
  /// Megabytes: without hugepages, what there is; with them, what the error message asks for.
  public var memory = 256
  /// Cores that poll; worker `i` runs on `workers[i]`.
  public var workers: [Int]
  /// PCI devices to take; all others are left alone.
  public var pciAddresses: [String] = []
  /// Names DPDK's runtime directory and its telemetry socket: one to a process.
  public var filePrefix = "gw"

  public init(workers: [Int]) { self.workers = workers }

  /// All cores that this process may use but the first; that one if it is alone.
  public static func defaultWorkers(allowed: CPUSet = .allowed) -> [Int] {
    allowed.cores.count > 1 ? Array(allowed.cores.dropFirst()) : allowed.cores
  }

  /// A prefix that no other gateway of this machine has: `/run/gw` gives `run-gw`.
  public static func filePrefix(runDirectory: String) -> String {
    let words = runDirectory.split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }.joined(separator: "-")
    guard words.count > 48 || words.isEmpty else { return words }
    // FNV-1a: the telemetry socket's path has 107 bytes at most.
    let hash = runDirectory.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return "gw-" + String(hash, radix: 16)
  }

  /// Checks cores and arguments before EAL sees them.
  public func validate(online: CPUSet = .online, allowed: CPUSet = .allowed) throws(EALError) {
    guard !workers.isEmpty else { throw .noWorkers }
    guard workers.count < 128 else { throw .tooManyWorkers(127) }
    var seen: Set<Int> = []
    for core in workers {
      guard online.contains(core) else { throw .noSuchCore(core, online: online.description) }
      guard allowed.contains(core) else { throw .coreNotAllowed(core, allowed: allowed.description) }
      guard seen.insert(core).inserted else { throw .duplicateCore(core) }
    }
    for argument in extraArguments {
      let name = argument.prefix { $0 != "=" }
      switch name {
      case "-l", "-c", "-s", "-S", "--lcores", "--main-lcore": throw .reservedArgument(argument, instead: "workers:")
      case "--file-prefix": throw .reservedArgument(argument, instead: "--run-dir")
      case "--no-huge", "--in-memory", "--huge-dir", "--huge-unlink", "--no-shconf":
        throw .reservedArgument(argument, instead: "hugepages:")
      default: break
      }
    }
  }

  /// EAL's argument vector.
  ///
  /// The main lcore has number 0 and its thread, which is parked, floats over the cores that do not poll (over all, if
  /// there are none); worker `i` is lcore `i + 1` on its core. With hugepages, `--in-memory` takes them without files:
  /// a killed process leaves nothing in hugetlbfs or /var/run/dpdk that would hold them.
  func arguments(allowed: CPUSet) -> [String] {
    let idle = allowed.cores.filter { !workers.contains($0) }
    let main = (idle.isEmpty ? allowed.cores : idle).map(String.init).joined(separator: ",")
    let lcores = workers.enumerated().map { ",\($0.offset + 1)@\($0.element)" }.joined()
    var all = ["gwd", "--lcores", "0@(\(main))\(lcores)", "--main-lcore", "0", "--file-prefix", filePrefix]
    if hugepages {
      all.append("--in-memory")
    } else {
      all += ["--no-huge", "--no-shconf"]
      if !extraArguments.contains("-m") { all += ["-m", String(memory)] }
    }
    if !pciAddresses.isEmpty {
      all += pciAddresses.flatMap { ["-a", $0] }
    } else if !extraArguments.contains(where: Self.choosesPCI) {
      all.append("--no-pci")
    }
    return all + extraArguments
  }

  private static func choosesPCI(_ argument: String) -> Bool {
    ["-a", "-b", "--allow", "--block", "--no-pci"].contains { argument == $0 || argument.hasPrefix($0 + "=") }
  }
}
