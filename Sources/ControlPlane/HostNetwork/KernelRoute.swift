import CLinux
import Routing
import Wire

/// A route as RTM_NEWROUTE describes it, of the tables main and local. Several next hops: the first that is alive.
struct KernelRoute: Equatable {
  /// rtm_type of linux/rtnetlink.h.
  enum Kind: UInt8 {
    case unicast = 1
    case local, broadcast, anycast, multicast, blackhole, unreachable, prohibit
  }

  /// `index` 0: none.
  struct NextHop: Equatable {
    var index: Int32 = 0
    var gateway: IPAddress?
    var isAlive = true
    /// An encapsulation that only the kernel can do, or a gateway that is no IP address.
    var isForeign = false
  }

  var kind: Kind
  var prefix: IPPrefix
  var nextHops: [NextHop]
  var metric: UInt32 = 0
  /// In bytes; 0: none given.
  var mtu: UInt32 = 0

  private static let header = 12

  /// `struct rtmsg`, 12 bytes, and attributes. Nil for other tables, cached routes, and routes by source or type of service.
  init?(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= Self.header else { return nil }
    let fields = NetlinkBytes(bytes: payload)
    guard let family = AddressFamily(rawValue: fields.load(0, as: UInt8.self)),
      let kind = Kind(rawValue: fields.load(7, as: UInt8.self)),
      fields.load(2, as: UInt8.self) == 0, fields.load(3, as: UInt8.self) == 0,
      fields.load(8, as: UInt32.self) & UInt32(RTM_F_CLONED) == 0
    else { return nil }
    self.kind = kind
    var destination = IPAddress.unspecified(family)
    var table = UInt32(fields.load(4, as: UInt8.self))
    var single = NextHop(isAlive: Self.isAlive(fields.load(8, as: UInt32.self)))
    var several: [NextHop] = []
    for attribute in NetlinkAttributes(fields.slice(from: Self.header)) {
      switch attribute.type {
      case Int(RTA_DST.rawValue):
        guard let address = IPAddress(bytes: attribute.value) else { return nil }
        destination = address
      case Int(RTA_TABLE.rawValue): table = attribute.uint32
      case Int(RTA_OIF.rawValue): single.index = Int32(bitPattern: attribute.uint32)
      case Int(RTA_PRIORITY.rawValue): metric = attribute.uint32
      case Int(RTA_METRICS.rawValue): mtu = Self.mtu(in: attribute.value)
      case Int(RTA_MULTIPATH.rawValue): several = Self.nextHops(in: attribute.value)
      default: single.take(attribute)
      }
    }
    guard table == RT_TABLE_MAIN.rawValue || table == RT_TABLE_LOCAL.rawValue, destination.family == family,
      let prefix = IPPrefix(destination, length: fields.load(1, as: UInt8.self))
    else { return nil }
    self.prefix = prefix
    nextHops = several.isEmpty ? [single] : several
  }

  private static func isAlive(_ flags: UInt32) -> Bool { flags & UInt32(RTNH_F_DEAD | RTNH_F_LINKDOWN) == 0 }

  private static func mtu(in metrics: UnsafeRawBufferPointer) -> UInt32 {
    NetlinkAttributes(metrics).first { $0.type == Int(RTAX_MTU) }?.uint32 ?? 0
  }

  /// Each is a `struct rtnexthop` of 8 bytes, (length:16, flags:8, hops:8, ifindex:32), with attributes.
  private static func nextHops(in value: UnsafeRawBufferPointer) -> [NextHop] {
    var rest = NetlinkBytes(bytes: value)
    var found: [NextHop] = []
    while rest.bytes.count >= 8 {
      let length = Int(rest.load(0, as: UInt16.self))
      guard length >= 8, length <= rest.bytes.count else { break }
      var nextHop = NextHop(
        index: rest.load(4, as: Int32.self), isAlive: isAlive(UInt32(rest.load(2, as: UInt8.self))))
      for attribute in NetlinkAttributes(rest.slice(from: 8, count: length - 8)) { nextHop.take(attribute) }
      found.append(nextHop)
      rest = NetlinkBytes(bytes: rest.slice(from: (length + 3) & ~3))
    }
    return found
  }

  /// As the routing table takes it; nil: none of the gateway's business. `port`: the port of an interface, if it is one.
  func route(port: (Int32) -> UInt16?) -> Route? {
    guard let target = target(port) else { return nil }
    return Route(prefix, target, source: .kernel, metric: metric, mtu: mtu)
  }

  /// Whether the gateway cannot do what the route says, by one of its ports, and answers for its destinations itself.
  func isForeign(port: (Int32) -> UInt16?) -> Bool {
    kind == .unicast && !isWellKnown && first(port)?.isForeign == true
  }

  /// The first of the next hops by a port, if the gateway can use none of them.
  private func first(_ port: (Int32) -> UInt16?) -> NextHop? {
    let ours = nextHops.filter { $0.isAlive && port($0.index) != nil }
    return ours.first { !$0.isForeign } ?? ours.first
  }

  private func target(_ port: (Int32) -> UInt16?) -> RouteTarget? {
    let first = first(port)
    let own = first.flatMap { port($0.index) }
    switch kind {
    case .unicast:
      guard let first, let own, !isWellKnown else { return nil }
      // Its packets must not follow a wider route.
      if first.isForeign { return .unreachable }
      return first.gateway.map { .via($0, port: own) } ?? .connected(port: own)
    case .local, .anycast: return isWellKnown || Martian.isSource(prefix.address) ? nil : .local(port: own)
    case .broadcast: return own.map { .broadcast(port: $0) }
    case .multicast: return nil
    case .blackhole: return .blackhole
    case .unreachable: return .unreachable
    case .prohibit: return .prohibit
    }
  }

  /// IPv6 link-local and multicast prefixes, which stand once for each interface and are no matter of routes.
  private var isWellKnown: Bool {
    guard case .v6(let address) = prefix.address else { return false }
    return prefix.length >= 8 && (Martian.isLinkLocal(address) || address.high >> 56 == 0xff)
  }
}

extension KernelRoute.NextHop {
  /// An attribute that says by which gateway, of the route or of one of several next hops.
  mutating func take(_ attribute: NetlinkAttribute) {
    switch attribute.type {
    case Int(RTA_GATEWAY.rawValue): gateway = IPAddress(bytes: attribute.value)
    case Int(RTA_VIA.rawValue):
      // `struct rtvia`: the family in 16 bits, then the address. IPv4 by IPv6 (RFC 5549).
      let via = NetlinkBytes(bytes: attribute.value)
      let address = IPAddress(bytes: via.slice(from: 2))
      gateway = address?.family.rawValue == via.load(0, as: UInt8.self) ? address : nil
      isForeign = gateway == nil
    case Int(RTA_ENCAP.rawValue): isForeign = true
    default: break
    }
  }
}
