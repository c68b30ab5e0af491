import Foundation

/// Why a port could not be opened or changed. Each description is one line that names the port's device and the remedy.
public enum PortError: Error, Equatable, Sendable, CustomStringConvertible {
  case malformedDevice(String)
  case noSuchPCIDevice(String)
  case kernelDriver(address: String, driver: String?, remedy: String)
  case noSuchDriver(String)
  case noSuchInterface(device: String, interface: String)
  case noSuchFile(device: String, path: String)
  case noPermission(device: String)
  case inUse(device: String)
  case mtu(device: String, mtu: Int, supported: ClosedRange<Int>)
  /// The driver refused; what it was asked for and what it logged.
  case refused(device: String, what: String, reason: String)

  public var description: String {
    switch self {
    case .malformedDevice(let text):
      "device \"\(text)\": neither a PCI address (0000:03:00.0) nor a virtual device (net_af_packet0,iface=eth0)"
    case .noSuchPCIDevice(let address):
      "device \(address): no such PCI device; gwctl doctor lists the NICs of this machine"
    case .kernelDriver(let address, let driver, let remedy):
      "device \(address): \(driver.map { "the kernel's driver \($0) holds it" } ?? "no driver is bound to it"); \(remedy)"
    case .noSuchDriver(let device):
      "device \"\(device)\": DPDK has no such driver; "
        + "its drivers are Debian packages: apt install librte-meta-all, or the one of this NIC (librte-net-…)"
    case .noSuchInterface(let device, let interface):
      "device \"\(device)\": no such interface: \(interface); see ip link"
    case .noSuchFile(let device, let path): "device \"\(device)\": no such file: \(path)"
    case .noPermission(let device):
      "device \"\(device)\": no permission; run as root or with CAP_NET_ADMIN and CAP_NET_RAW"
    case .inUse(let device): "device \"\(device)\": already in use by another port"
    case .mtu(let device, let mtu, let supported):
      "device \"\(device)\": mtu \(mtu) is not supported; it takes \(supported.lowerBound) to \(supported.upperBound)"
    case .refused(let device, let what, let reason): "device \"\(device)\": \(what) failed: \(reason)"
    }
  }

  /// Drivers return -1 for anything, which is -EPERM.
  static func isPermission(code: Int32, problems: [String]) -> Bool {
    if code == EACCES || code == EPERM && geteuid() != 0 { return true }
    return problems.contains { $0.contains("Operation not permitted") || $0.contains("Permission denied") }
  }
}
