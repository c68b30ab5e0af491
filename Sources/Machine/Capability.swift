/// What a process may do beyond its user's rights (capabilities(7)), as far as a gateway needs it.
public enum Capability: Int, CaseIterable, Sendable {
  case netAdmin = 12
  case netRaw = 13
  case ipcLock = 14
  case sysRawIO = 17
  case sysNice = 23

  public var name: String {
    switch self {
    case .netAdmin: "CAP_NET_ADMIN"
    case .netRaw: "CAP_NET_RAW"
    case .ipcLock: "CAP_IPC_LOCK"
    case .sysRawIO: "CAP_SYS_RAWIO"
    case .sysNice: "CAP_SYS_NICE"
    }
  }

  public var purpose: String {
    switch self {
    case .netAdmin: "TAPs, addresses and routes"
    case .netRaw: "packet sockets"
    case .ipcLock: "memory that devices and keys share with no swap"
    case .sysRawIO: "devices without an IOMMU"
    case .sysNice: "the workers' scheduling"
    }
  }

  /// Those that this process has now.
  public static func effective(_ files: MachineFiles = MachineFiles()) -> Set<Capability> {
    let line = files.lines("/proc/self/status").first { $0.hasPrefix("CapEff:") }
    let mask = line.flatMap { UInt64($0.split(whereSeparator: \.isWhitespace).last ?? "", radix: 16) } ?? 0
    return Set(allCases.filter { mask >> UInt64($0.rawValue) & 1 == 1 })
  }
}
