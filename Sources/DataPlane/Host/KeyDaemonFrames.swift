import Wire

/// Which frames of the kernel's are the key daemon's: those that its sockets vouch for, and the further fragments of such
/// datagrams, which show no ports. A kernel sends a datagram's fragments one behind the other, so the next one of a datagram
/// is the one that goes on where the last one ended. The host thread's.
struct KeyDaemonFrames {
  /// Datagrams of which more fragments are to come. A message of IKE has 64 KiB at most, and few are on their way at once.
  static let mostDatagrams = 64
  /// Seconds: fragments leave together.
  static let patience = 1.0

  private struct Datagram {
    var key: HostDatagram.Key
    /// Where the next fragment begins.
    var next: Int
    var deadline: Double
  }

  private let sockets: KeyDaemonSockets
  private var datagrams: [Datagram] = []

  init(_ sockets: KeyDaemonSockets) { self.sockets = sockets }

  /// No frame is one of them.
  var isIdle: Bool { sockets.isEmpty && datagrams.isEmpty }

  /// Of frames in the order in which they came out of one TAP.
  mutating func areOurs(_ frames: [UnsafeRawBufferPointer], now: Double) -> [Bool] {
    datagrams.removeAll { $0.deadline < now }
    let parts = frames.map { HostDatagram($0) }
    let vouched = sockets.vouched(parts.map { $0?.end })
    return zip(parts, vouched).map { part, isVouched in
      guard let part else { return false }
      return isOurs(part, isVouched: isVouched, now: now)
    }
  }

  private mutating func isOurs(_ part: HostDatagram, isVouched: Bool, now: Double) -> Bool {
    guard part.offset > 0 else {
      // Another datagram of the same name begins, or a whole one goes by.
      datagrams.removeAll { $0.key == part.key }
      if isVouched, part.hasMore { begin(part, now: now) }
      return isVouched
    }
    guard let index = datagrams.firstIndex(where: { $0.key == part.key && $0.next == part.offset }) else {
      return false
    }
    datagrams[index].next += part.length
    if !part.hasMore { datagrams.remove(at: index) }
    return true
  }

  private mutating func begin(_ part: HostDatagram, now: Double) {
    if datagrams.count == Self.mostDatagrams { datagrams.removeFirst() }
    datagrams.append(Datagram(key: part.key, next: part.length, deadline: now + Self.patience))
  }
}

/// A UDP datagram in a frame of the kernel's, or a fragment of one.
struct HostDatagram {
  /// What fragments of one datagram have in common.
  struct Key: Equatable {
    var source: IPAddress
    var destination: IPAddress
    var identification: UInt32
  }

  let key: Key
  /// Of what the fragments are pieces of, in bytes.
  let offset: Int
  let length: Int
  let hasMore: Bool
  /// The source port; nil: a later fragment, or too short to show it.
  let port: UInt16?

  /// Where it says that it comes from.
  var end: (address: IPAddress, port: UInt16)? { port.map { (key.source, $0) } }

  /// Nil: something else.
  init?(_ frame: UnsafeRawBufferPointer) {
    guard let base = frame.baseAddress, frame.count >= 14 else { return nil }
    switch base.big16(at: 12) {
    case EtherType.ipv4: self.init(ipv4: base + 14, length: frame.count - 14)
    case EtherType.ipv6: self.init(ipv6: base + 14, length: frame.count - 14)
    default: return nil
    }
  }

  private init?(ipv4 base: UnsafeRawPointer, length available: Int) {
    guard let header = IPv4Header(base, length: available), header.ipProtocol == IPProtocol.udp else { return nil }
    let field = base.big16(at: 6)
    self.init(
      Key(
        source: .v4(header.source), destination: .v4(header.destination), identification: UInt32(base.big16(at: 4))),
      offset: Int(field & 0x1fff) * 8, hasMore: field & 0x2000 != 0, payload: base + header.headerLength,
      length: header.totalLength - header.headerLength)
  }

  private init?(ipv6 base: UnsafeRawPointer, length available: Int) {
    guard let header = IPv6Header(base, length: available) else { return nil }
    let headers = IPv6ExtensionHeaders(header)
    guard headers.fault == nil, headers.upperProtocol == IPProtocol.udp else { return nil }
    let fragment = Int(headers.fragmentHeaderOffset)
    self.init(
      Key(
        source: .v6(header.source), destination: .v6(header.destination),
        identification: fragment == 0 ? 0 : base.big32(at: fragment + 4)),
      offset: headers.fragmentOffset, hasMore: headers.moreFragments, payload: base + Int(headers.upperOffset),
      length: header.totalLength - Int(headers.upperOffset))
  }

  private init(_ key: Key, offset: Int, hasMore: Bool, payload: UnsafeRawPointer, length: Int) {
    self.key = key
    self.offset = offset
    self.length = length
    self.hasMore = hasMore
    port = offset == 0 && length >= 8 ? payload.big16(at: 0) : nil
  }
}
