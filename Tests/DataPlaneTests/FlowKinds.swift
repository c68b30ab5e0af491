import Engines
import IPsec
import Wire

@testable import DataPlane

/// Packets of every kind that a gateway treats in a way of its own, with as few addresses and ports as can be, so that
/// what the flow cache keeps of one kind could be taken for another's.
struct FlowKind {
  enum Way { case wan, lan, host }

  let name: String
  let way: Way
  /// An Ethernet frame; the number tells its datagram from others, in the header's identification.
  let frame: (UInt16) -> [UInt8]

  init(_ name: String, _ way: Way, to group: MACAddress = TestGateway.mac, _ packet: @escaping (UInt16) -> [UInt8]) {
    self.name = name
    self.way = way
    frame = { TestGateway.frame(packet($0), to: group) }
  }
}

/// The gateway that they come to, and its peer, who seals for it.
struct FlowKindBench {
  static let peer = ("198.51.100.1", "2001:db8:ffff::1")
  static let own = ("198.51.100.2", "2001:db8:ffff::2")
  static let denied = ("198.51.100.66", "2001:db8:ffff::66")
  static let bare = ("198.51.100.67", "2001:db8:ffff::67")
  /// Who has an IPIP SA.
  static let wrapped = ("198.51.100.68", "2001:db8:ffff::68")
  static let far = Pair.host4.0
  static let far6 = Pair.host6.0
  static let near = Pair.host4.1
  static let near6 = Pair.host6.1
  static let outside = ("203.0.113.9", "2001:db8:9999::9")

  let sealer: TestGateway

  init() throws {
    sealer = try TestGateway(
      own: ["\(Self.peer.0)/24", "\(Self.peer.1)/64"], far: [(Pair.lan4.1, Self.own.0), (Pair.lan6.1, Self.own.1)],
      neighbors: [], lan: (["10.1.0.1/16", "2001:db8:a::1/48"], []))
    for sa in Self.inbound { try sealer.security.add(sa, origin: 0) }
    for (source, destination, sa) in [
      (Pair.lan4.0, "0.0.0.0/0", Self.inbound[0]), (Pair.lan6.0, "::/0", Self.inbound[1]),
    ] {
      try Self.add(sa, .out, source, destination, to: sealer)
    }
  }

  /// SAs of the peer's, without replay windows: what was sealed once may come again.
  static let inbound: [SAParameters] = {
    var udp = Pair.sa(.esp, .tunnel, .v4, spi: 0x2003, transform: .esp(.aesGCM16))
    udp.encapsulation = UDPEncapsulation()
    let sas = [
      Pair.sa(.esp, .tunnel, .v4, spi: 0x2001, transform: .esp(.aesGCM16)),
      Pair.sa(.esp, .tunnel, .v6, spi: 0x2002, transform: .esp(.chacha20Poly1305)), udp,
      Pair.sa(.ah, .tunnel, .v4, spi: 0x2004, transform: .ah(.hmacSHA256)),
    ]
    return sas.map {
      var sa = $0
      sa.replayWindow = 0
      return sa
    }
  }()

  /// A gateway of its own, which has seen no packet.
  static func gateway() throws -> TestGateway {
    let gateway = try TestGateway(
      own: ["\(own.0)/24", "\(own.1)/64"],
      far: [
        (Pair.lan4.0, peer.0), (Pair.lan6.0, peer.1), ("0.0.0.0/0", "198.51.100.254"), ("::/0", "2001:db8:ffff::fe"),
      ],
      neighbors: [], lan: (["10.2.0.1/16", "2001:db8:b::1/48"], [near, near6]))
    for sa in inbound { try gateway.security.add(sa, origin: 0) }
    for (source, destination) in [wrapped, own].pairs {
      try gateway.security.add(
        SAParameters(
          spi: 0, source: IPAddress(source)!, destination: IPAddress(destination)!, saProtocol: .ipip, mode: .tunnel),
        origin: 0)
    }
    for (number, ends) in [(own.0, peer.0), (own.1, peer.1)].enumerated() {
      let sa = SAParameters(
        spi: 0x3001 + UInt32(number), source: IPAddress(ends.0)!, destination: IPAddress(ends.1)!,
        transform: CryptoTransform.esp(.aesGCM16).keyed(for: 0x3001 + UInt32(number)))
      try gateway.security.add(sa, origin: 0)
      let (near, far) = number == 0 ? (Pair.lan4.1, Pair.lan4.0) : (Pair.lan6.1, Pair.lan6.0)
      try add(sa, .out, near, far, to: gateway)
      try add(inbound[number], .in, far, number == 0 ? "0.0.0.0/0" : "::/0", to: gateway)
    }
    for (source, any) in [(denied.0, "0.0.0.0/0"), (denied.1, "::/0")] {
      try gateway.add(PolicyParameters(direction: .in, selector: selector(source, any), type: .deny))
    }
    for (source, end) in [bare, own].pairs {
      let template = SATemplate(mode: .transport, source: IPAddress(source)!, destination: IPAddress(end)!)
      try gateway.add(PolicyParameters(direction: .in, selector: selector(source, end), templates: [template]))
    }
    return gateway
  }

  private static func selector(_ source: String, _ destination: String) -> Selector {
    Selector(source: IPPrefix(source)!, destination: IPPrefix(destination)!)
  }

  private static func add(
    _ sa: SAParameters, _ direction: PolicyDirection, _ source: String, _ destination: String, to gateway: TestGateway
  ) throws {
    let template = SATemplate(saProtocol: sa.saProtocol, mode: sa.mode, source: sa.source, destination: sa.destination)
    try gateway.add(
      PolicyParameters(direction: direction, selector: selector(source, destination), templates: [template]))
  }

  // MARK: The kinds

  var kinds: [FlowKind] { plain + ipsec + groups + transit + tunnelled + fromHost }

  private struct Sort {
    let name: String
    let number: UInt8
    let payload: [UInt8]
    var piece = Craft.Piece.whole
  }

  private static let zeros = [UInt8](repeating: 0, count: 40)
  private static let inner = Packets.udp(from: far, to: near, payload: Array(0..<20))

  /// Whole datagrams and pieces of them.
  private static func pieces(_ name: String, _ number: UInt8, _ payload: [UInt8], isV6: Bool) -> [Sort] {
    let pieces: [Craft.Piece] = isV6 ? [.whole, .first, .later, .atomic] : [.whole, .first, .later]
    return pieces.map { Sort(name: "\($0) \(name)", number: number, payload: payload, piece: $0) }
  }

  /// Of all that is told apart, without what is told apart by the source alone.
  private static func few(isV6: Bool) -> [Sort] {
    let all =
      pieces("udp", 17, Craft.udp(4500, 4500, zeros), isV6: isV6) + pieces("ip in ip", 4, inner, isV6: isV6)
      + pieces("esp", 50, Craft.esp(0x9999), isV6: isV6)
    return all.filter { $0.piece == .whole || $0.piece == .first } + [
      Sort(name: "encapsulated", number: 17, payload: Craft.udp(4500, 4500, Craft.esp(0x9999)))
    ]
  }

  private static func kinds(
    _ from: String, _ to: String, _ way: FlowKind.Way, _ sorts: [Sort]
  ) -> [FlowKind] {
    sorts.map { sort in
      FlowKind("\(sort.name) \(from) to \(to) by \(way)", way) {
        Craft.ip(from, to, sort.number, sort.payload, sort.piece, id: $0)
      }
    }
  }

  /// To the gateway, in clear.
  private var plain: [FlowKind] {
    var kinds: [FlowKind] = []
    for (isV6, ends) in [(false, (Self.peer.0, Self.own.0)), (true, (Self.peer.1, Self.own.1))] {
      var sorts = Self.pieces("udp", 17, Craft.udp(4500, 4500, Self.zeros), isV6: isV6)
      sorts += Self.pieces("tcp", 6, Self.zeros, isV6: isV6)
      sorts += Self.pieces("ip in ip", 4, Self.inner, isV6: isV6)
      sorts += Self.pieces("ipv6 in ip", 41, Packets.udp(from: Self.far6, to: Self.near6, payload: [1]), isV6: isV6)
      sorts += Self.pieces("gre", 47, Self.zeros, isV6: isV6)
      sorts += [
        Sort(name: "ike", number: 17, payload: Craft.udp(500, 500, Self.zeros)),
        Sort(name: "keepalive", number: 17, payload: Craft.udp(4500, 4500, [0xff])),
        Sort(name: "empty", number: 17, payload: Craft.udp(4500, 4500, [])),
        Sort(name: "short encapsulated", number: 17, payload: Craft.udp(4500, 4500, [1, 2, 3, 4, 5])),
        Sort(name: "short tcp", number: 6, payload: [0x11, 0x94]),
        Sort(name: "short ip in ip", number: 4, payload: [0x45, 0]),
        Sort(name: "echo", number: isV6 ? 58 : 1, payload: [isV6 ? 128 : 8, 0, 0, 0, 1, 2, 3, 4]),
      ]
      kinds += Self.kinds(ends.0, ends.1, .wan, sorts)
    }
    for source in [Self.denied, Self.bare, Self.wrapped] {
      kinds += Self.kinds(source.0, Self.own.0, .wan, Self.few(isV6: false))
    }
    return kinds + Self.kinds(Self.wrapped.1, Self.own.1, .wan, Self.few(isV6: true))
  }

  /// To the gateway, with and without an SA.
  private var ipsec: [FlowKind] {
    var kinds: [FlowKind] = []
    for (isV6, ends) in [(false, (Self.peer.0, Self.own.0)), (true, (Self.peer.1, Self.own.1))] {
      var sorts = Self.pieces("esp", 50, Craft.esp(0x9999), isV6: isV6)
      sorts += Self.pieces("ah", 51, [4, 4, 0, 0] + Craft.esp(0x9999), isV6: isV6)
      sorts += Self.pieces("ipcomp", 108, [4, 0, 0x99, 0x99] + Craft.esp(1), isV6: isV6)
      sorts += [
        Sort(name: "known esp", number: 50, payload: Craft.esp(isV6 ? 0x2002 : 0x2001)),
        Sort(name: "short esp", number: 50, payload: [0, 0, 0x20, 1]),
        Sort(name: "encapsulated", number: 17, payload: Craft.udp(4500, 4500, Craft.esp(0x9999))),
        Sort(name: "known encapsulated", number: 17, payload: Craft.udp(4500, 4500, Craft.esp(0x2003))),
        Sort(name: "mismatched", number: 17, payload: Craft.udp(4500, 4500, Craft.esp(isV6 ? 0x2002 : 0x2001))),
      ]
      kinds += Self.kinds(ends.0, ends.1, .wan, sorts)
    }
    return kinds
  }

  /// By frames to groups, and to group addresses.
  private var groups: [FlowKind] {
    let all = MACAddress(rawValue: 0xffff_ffff_ffff)
    let group = MACAddress(rawValue: 0x0100_5e00_0005)
    let group6 = MACAddress(rawValue: 0x3333_0000_0001)
    func udp(_ from: String, _ to: String, _ piece: Craft.Piece = .whole) -> (UInt16) -> [UInt8] {
      { Craft.ip(from, to, 17, Craft.udp(4500, 4500, Self.zeros), piece, id: $0) }
    }
    var kinds = [
      FlowKind("dhcp", .wan, to: all, udp("0.0.0.0", "255.255.255.255")),
      FlowKind("limited broadcast", .wan, to: all, udp(Self.peer.0, "255.255.255.255")),
      FlowKind("directed broadcast", .wan, to: all, udp(Self.peer.0, "198.51.100.255")),
      FlowKind("directed broadcast by the other port", .lan, to: all, udp(Self.peer.0, "198.51.100.255")),
      FlowKind("unicast in a broadcast frame", .wan, to: all, udp(Self.peer.0, Self.own.0)),
      FlowKind("piece in a broadcast frame", .wan, to: all, udp(Self.peer.0, Self.own.0, .first)),
      FlowKind("ipv6 unicast in a group's frame", .wan, to: group6, udp(Self.peer.1, Self.own.1)),
      FlowKind("transit in a group's frame", .lan, to: group, udp(Self.near, Self.far)),
      FlowKind("multicast", .wan, to: group, udp(Self.peer.0, "224.0.0.5")),
      FlowKind("multicast to the port", .wan, udp(Self.peer.0, "224.0.0.5")),
      FlowKind("piece of multicast", .wan, to: group, udp(Self.peer.0, "224.0.0.5", .first)),
      FlowKind("multicast denied", .wan, to: group, udp(Self.denied.0, "224.0.0.5")),
      FlowKind("ipv6 multicast", .wan, to: group6, udp(Self.peer.1, "ff02::5")),
      FlowKind("ipv6 multicast denied", .wan, to: group6, udp(Self.denied.1, "ff02::5")),
    ]
    for piece in [Craft.Piece.whole, .first] {
      for (name, frame, to) in [("in a broadcast frame", all, Self.own.0), ("to a group", group, "224.0.0.5")] {
        kinds.append(
          FlowKind("\(piece) esp \(name)", .wan, to: frame) {
            Craft.ip(Self.peer.0, to, 50, Craft.esp(0x2001), piece, id: $0)
          })
      }
    }
    return kinds
  }

  /// Neither to the gateway nor from it, or by a port that it should not come by.
  private var transit: [FlowKind] {
    var kinds: [FlowKind] = []
    for (way, from, to) in [
      (FlowKind.Way.lan, Self.near, Self.far), (.wan, Self.near, Self.far), (.wan, Self.far, Self.near),
      (.wan, Self.outside.0, Self.near),
    ] {
      kinds += Self.kinds(from, to, way, Self.few(isV6: false))
    }
    let solicitation = Sort(name: "nd", number: 58, payload: [135, 0, 0, 0, 0, 0, 0, 0] + Self.zeros.prefix(16))
    for (way, from, to) in [(FlowKind.Way.lan, Self.near6, Self.far6), (.wan, Self.near6, Self.far6)] {
      kinds += Self.kinds(from, to, way, Self.few(isV6: true) + [solicitation])
    }
    let udp = Sort(name: "udp", number: 17, payload: Craft.udp(4500, 4500, Self.zeros))
    for (way, from, to) in [
      (FlowKind.Way.lan, Self.near, Self.outside.0), (.lan, Self.outside.0, Self.own.0), (.lan, Self.near, Self.own.0),
      (.wan, Self.near, Self.own.0), (.wan, Self.own.0, Self.near), (.wan, "fe80::1", Self.near6),
      (.wan, "fe80::1", Self.own.1), (.wan, "127.0.0.1", Self.near), (.wan, Self.denied.0, Self.near),
    ] {
      kinds += Self.kinds(from, to, way, [udp])
    }
    return kinds
  }

  /// Out of a tunnel.
  private var tunnelled: [FlowKind] {
    let udp = [Sort(name: "udp", number: 17, payload: Craft.udp(4500, 4500, Self.zeros))]
    let cases = [
      (Self.far, Self.near, Self.few(isV6: false)), (Self.far, Self.own.0, Self.few(isV6: false)),
      (Self.far6, Self.near6, Self.few(isV6: true)), (Self.far, "10.2.0.1", udp), (Self.far, "10.2.255.255", udp),
      (Self.far6, Self.own.1, udp),
    ]
    return cases.flatMap { from, to, sorts in
      sorts.map { sort in
        FlowKind("\(sort.name) \(from) to \(to) out of a tunnel", .wan) { [sealer] in
          sealer.receive([Craft.ip(from, to, sort.number, sort.payload, sort.piece, id: $0)], port: 1).sent[0]
        }
      }
    }
  }

  /// What the gateway's kernel sends.
  private var fromHost: [FlowKind] {
    let cases = [
      (Self.own.0, Self.peer.0), ("10.2.0.1", Self.far), (Self.near, Self.far), (Self.own.0, "224.0.0.5"),
      (Self.own.0, "255.255.255.255"), (Self.own.1, Self.peer.1), (Self.own.1, "ff02::5"), ("fe80::2", "fe80::1"),
    ]
    return cases.flatMap { from, to in
      let isV6 = from.contains(":")
      var sorts = Self.pieces("udp", 17, Craft.udp(4500, 4500, Self.zeros), isV6: isV6)
      sorts.append(Sort(name: "short", number: 17, payload: [1]))
      if isV6 { sorts.append(Sort(name: "nd", number: 58, payload: [134, 0] + Self.zeros.prefix(14))) }
      return Self.kinds(from, to, .host, sorts)
    }
  }
}

extension TestGateway {
  func add(_ policy: PolicyParameters) throws { _ = try security.add(policy, replacing: false, origin: 0) }
}

extension [(String, String)] {
  /// The IPv4 addresses, then the IPv6 ones.
  fileprivate var pairs: [(String, String)] { [(self[0].0, self[1].0), (self[0].1, self[1].1)] }
}

/// Packets that differ from `Packets` in that they may be pieces and have an identification.
enum Craft {
  enum Piece { case whole, first, later, atomic }

  static func udp(_ source: UInt16, _ destination: UInt16, _ payload: [UInt8]) -> [UInt8] {
    [source, destination, UInt16(8 + payload.count), 0].flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] } + payload
  }

  static func esp(_ spi: UInt32) -> [UInt8] {
    [UInt8(spi >> 24), UInt8(spi >> 16 & 255), UInt8(spi >> 8 & 255), UInt8(spi & 255), 0, 0, 0, 9] + Array(0..<44)
  }

  static func ip(
    _ from: String, _ to: String, _ number: UInt8, _ payload: [UInt8], _ piece: Piece, id: UInt16
  ) -> [UInt8] {
    let half = payload.count / 2 & ~7
    let part =
      switch piece {
      case .whole, .atomic: payload
      case .first: Array(payload[..<half])
      case .later: Array(payload[half...])
      }
    let field = UInt16(piece == .later ? half / 8 : 0)
    guard from.contains(":") else {
      var packet = Packets.ip(from: from, to: to, number: number, payload: part)
      let flags: UInt16 = piece == .first ? 0x2000 : 0
      packet.replaceSubrange(4..<6, with: [UInt8(id >> 8), UInt8(id & 255)])
      packet.replaceSubrange(6..<8, with: [UInt8((field | flags) >> 8), UInt8(field & 255)])
      return Packets.summed(packet)
    }
    guard piece != .whole else { return Packets.ip(from: from, to: to, number: number, payload: part) }
    let place = field << 3 | (piece == .first ? 1 : 0)
    let header = [number, 0, UInt8(place >> 8), UInt8(place & 255), 0, 0, UInt8(id >> 8), UInt8(id & 255)]
    return Packets.ip(from: from, to: to, number: 44, payload: header + part)
  }
}
