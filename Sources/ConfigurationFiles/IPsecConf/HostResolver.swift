import Glibc
import Wire

/// Names of interfaces and hosts to addresses.
public struct HostResolver: Sendable {
  /// The addresses of each interface, or group of them, by name.
  public var interfaces: @Sendable () -> [String: [IPAddress]]
  /// The addresses of a host by its name; none if there are none.
  public var lookup: @Sendable (String) -> [IPAddress]

  public init(
    interfaces: @escaping @Sendable () -> [String: [IPAddress]], lookup: @escaping @Sendable (String) -> [IPAddress]
  ) {
    self.interfaces = interfaces
    self.lookup = lookup
  }

  /// The machine's own. `extra` adds interfaces that the kernel does not know: ports without a TAP.
  public static func system(extra: [String: [IPAddress]] = [:]) -> HostResolver {
    HostResolver(
      interfaces: { systemInterfaces().merging(extra) { $0 + $1.filter { [known = $0] in !known.contains($0) } } },
      lookup: systemLookup)
  }

  /// Knows nothing: numeric addresses only.
  public static let numericOnly = HostResolver(interfaces: { [:] }, lookup: { _ in [] })

  private static func systemInterfaces() -> [String: [IPAddress]] {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return [:] }
    defer { freeifaddrs(list) }
    var interfaces: [String: [IPAddress]] = [:]
    var next = list
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let name = entry.ifa_name else { continue }
      var addresses = interfaces[String(cString: name), default: []]
      if let address = entry.ifa_addr.flatMap(address), !address.isLinkLocal { addresses.append(address) }
      interfaces[String(cString: name)] = addresses
    }
    return interfaces
  }

  private static func systemLookup(_ name: String) -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [IPAddress] = []
    var next = list
    while let entry = next?.pointee {
      next = entry.ai_next
      if let address = entry.ai_addr.flatMap(address), !addresses.contains(address) { addresses.append(address) }
    }
    return addresses
  }

  /// IPv4 and IPv6 only, and no scoped address.
  private static func address(_ socketAddress: UnsafeMutablePointer<sockaddr>) -> IPAddress? {
    switch Int32(socketAddress.pointee.sa_family) {
    case AF_INET:
      return socketAddress.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        .v4(IPv4Address(rawValue: UInt32(bigEndian: $0.pointee.sin_addr.s_addr)))
      }
    case AF_INET6:
      return socketAddress.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address -> IPAddress? in
        guard address.pointee.sin6_scope_id == 0 else { return nil }
        return withUnsafeBytes(of: address.pointee.sin6_addr) { IPAddress(bytes: Array($0)) }
      }
    default: return nil
    }
  }
}

extension IPAddress {
  /// fe80::/10.
  fileprivate var isLinkLocal: Bool { family == .v6 && halves.0 >> 54 == 0xfe80 >> 6 }
}
