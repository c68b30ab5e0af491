/// Why DPDK's environment did not start. Each description is one line and ends with the remedy.
public enum EALError: Error, Equatable, Sendable, CustomStringConvertible {
  case alreadyStarted
  case noWorkers
  case noSuchCore(Int, online: String)
  case coreNotAllowed(Int, allowed: String)
  case duplicateCore(Int)
  case tooManyWorkers(Int)
  /// An extra EAL argument that the gateway sets itself.
  case reservedArgument(String, instead: String)
  case noHugepages(needed: Int)
  case noPermission(String)
  /// `rte_eal_init` refused; the last thing that it logged.
  case initialization(String)
  case thread(Int32)
  case launch(core: Int, code: Int32)

  public var description: String {
    switch self {
    case .alreadyStarted: "DPDK was started before in this process"
    case .noWorkers: "workers: no core is named; name at least one"
    case .noSuchCore(let core, let online):
      "workers: core \(core) does not exist or is offline; this machine has cores \(online)"
    case .coreNotAllowed(let core, let allowed):
      "workers: core \(core) is not among the cores this process may use (\(allowed)); "
        + "see CPUAffinity of the unit, taskset or the container's cpuset"
    case .duplicateCore(let core): "workers: core \(core) is named twice"
    case .tooManyWorkers(let limit): "workers: more than \(limit) cores; DPDK is built for no more"
    case .reservedArgument(let argument, let instead): "eal: \(argument) is set by the gateway; use \(instead)"
    case .noHugepages(let needed):
      "no free hugepages; run: sysctl -w vm.nr_hugepages=\(needed), "
        + "and to have them at each boot: echo vm.nr_hugepages=\(needed) >/etc/sysctl.d/90-gw-hugepages.conf; "
        + "or set hugepages: false, which is enough for virtual devices"
    case .noPermission(let what):
      "no permission: \(what); run as root or with CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_NICE"
    case .initialization(let reason): "DPDK did not start: \(reason); check eal:, workers: and hugepages:"
    case .thread(let code): "DPDK's thread could not be created (errno \(code))"
    case .launch(let core, let code): "the worker of core \(core) could not be launched (error \(code)); is it running?"
    }
  }
}
