/// What a port is made of: a PCI device, or a virtual one as it is written for `--vdev`.
public enum PortDevice: Sendable, Equatable, CustomStringConvertible {
  /// `0000:03:00.0`
  case pci(String)
  /// `net_af_packet0` and `iface=veth0`
  case virtual(name: String, arguments: String)

  /// Throws what is wrong with the text; whether the device exists is seen when it is opened.
  public init(_ text: String) throws(PortError) {
    if let address = Self.pciAddress(text) {
      self = .pci(address)
      return
    }
    let parts = text.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let isName = parts[0].allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }
    guard isName, let first = parts[0].first, first.isLetter, parts[0].utf8.count < 64 else {
      throw .malformedDevice(text)
    }
    self = .virtual(name: parts[0], arguments: parts.count > 1 ? parts[1] : "")
  }

  /// With its domain, in lower case: `03:00.0` gives `0000:03:00.0`.
  private static func pciAddress(_ text: String) -> String? {
    let parts = text.lowercased().split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2 || parts.count == 3 else { return nil }
    let domain = parts.count == 3 ? parts[0] : "0000"
    let tail = parts[parts.count - 1].split(separator: ".", omittingEmptySubsequences: false)
    let bus = parts[parts.count - 2]
    guard tail.count == 2, domain.count == 4, bus.count == 2, tail[0].count == 2, tail[1].count == 1 else { return nil }
    guard [domain, bus, tail[0], tail[1]].allSatisfy({ $0.allSatisfy(\.isHexDigit) }) else { return nil }
    return "\(domain):\(bus):\(tail[0]).\(tail[1])"
  }

  /// Throws what is wrong with the device on this machine, without opening it.
  public func check() throws(PortError) { try DeviceProbe.checkExists(self) }

  public var description: String {
    switch self {
    case .pci(let address): address
    case .virtual(let name, let arguments): arguments.isEmpty ? name : "\(name),\(arguments)"
    }
  }

  /// What DPDK calls the device.
  var name: String {
    switch self {
    case .pci(let address): address
    case .virtual(let name, _): name
    }
  }

  /// The driver of a virtual device: its name without the number.
  var driver: String? {
    guard case .virtual(let name, _) = self else { return nil }
    return String(name.reversed().drop(while: \.isNumber).reversed())
  }

  /// A driver argument's value.
  func argument(_ key: String) -> String? {
    guard case .virtual(_, let arguments) = self else { return nil }
    for part in arguments.split(separator: ",") where part.hasPrefix(key + "=") {
      return String(part.dropFirst(key.count + 1))
    }
    return nil
  }
}
