import CLayout
import Wire

/// An SA that packets are opened by. Who opens packets takes these, and the only way to one is the table of inbound SAs:
/// what a packet says can name no key that seals.
public struct InboundSA: Equatable, @unchecked Sendable {
  public let record: UnsafeMutablePointer<gw_sa>

  /// `record` was found in the table of inbound SAs before.
  @inlinable @inline(__always)
  public init(found record: UnsafeMutablePointer<gw_sa>) {
    assert(record.pointee.flags & GW_SA_INBOUND.rawValue != 0, "an SA that seals opens nothing")
    self.record = record
  }
}

/// The inbound SAs: the only ones that packets are looked up among.
public struct InboundSAD: Sendable {
  @usableFromInline let table: SADReader

  @inlinable init(table: SADReader) { self.table = table }

  /// As `SADReader.lookup`.
  @inlinable @inline(__always)
  public func lookup(spi: UInt32, destination4: UInt32, saProtocol: UInt8) -> InboundSA? {
    guard let sa = table.lookup(spi: spi, destination4: destination4, saProtocol: saProtocol) else { return nil }
    return InboundSA(found: sa)
  }

  @inlinable @inline(__always)
  public func lookup(
    spi: UInt32, version: UInt8, destinationHigh: UInt64, destinationLow: UInt64, saProtocol: UInt8
  ) -> InboundSA? {
    let sa = table.lookup(
      spi: spi, version: version, destinationHigh: destinationHigh, destinationLow: destinationLow,
      saProtocol: saProtocol)
    guard let sa else { return nil }
    return InboundSA(found: sa)
  }

  /// More than a core's nearer caches keep, beside all else: what is looked up is worth asking for beforehand.
  @inlinable public var isLarge: Bool {
    @inline(__always) get { table.index.size >= 128 << 10 }
  }

  /// Brings near the line that `lookup` will read first.
  @inlinable @inline(__always)
  public func prefetch(spi: UInt32, destination4: UInt32) {
    table.index.prefetch(key: SADReader.key(spi, destination4))
  }
}

/// The SAs of one direction as workers see them: (SPI, destination, protocol) → SA (RFC 4301 4.1). A plain value; copying
/// is free. The memory belongs to the `SAD`, which must outlive every reader. A found SA is valid until the worker's next
/// quiescent state.
///
/// An entry's key is (SPI : 32, IPv4 destination or a fold of the IPv6 one : 32), its value (IPv6 : 8, protocol : 8,
/// SA pointer : 48): for IPv4 that is the exact identity and the SA itself is not read.
public struct SADReader: Sendable {
  @usableFromInline let index: HashIndexReader

  @inlinable init(index: HashIndexReader) { self.index = index }

  /// - Parameters:
  ///   - spi: in network byte order, as it stands in the packet.
  ///   - destination4: in host byte order.
  @inlinable @inline(__always)
  public func lookup(spi: UInt32, destination4: UInt32, saProtocol: UInt8) -> UnsafeMutablePointer<gw_sa>? {
    let wanted = UInt64(saProtocol)
    let value = index.only(key: Self.key(spi, destination4)) { $0 >> 48 == wanted }
    if value == 0 && saProtocol == IPProtocol.ipip {
      return lookup(spi: spi, destination4: destination4, saProtocol: Self.uncompressedProtocol)
    }
    return Self.pointer(value)
  }

  /// IPv6: the destination's halves in host byte order.
  @inlinable @inline(__always)
  public func lookup(
    spi: UInt32, destinationHigh: UInt64, destinationLow: UInt64, saProtocol: UInt8
  ) -> UnsafeMutablePointer<gw_sa>? {
    let wanted = UInt64(saProtocol) | 0x100
    let value = index.only(key: Self.key(spi, Self.fold(destinationHigh, destinationLow))) {
      guard $0 >> 48 == wanted, let sa = Self.pointer($0) else { return false }
      return sa.pointee.destination_low == destinationLow && sa.pointee.destination_high == destinationHigh
    }
    if value == 0 && saProtocol == IPProtocol.ipip {
      return lookup(
        spi: spi, destinationHigh: destinationHigh, destinationLow: destinationLow,
        saProtocol: Self.uncompressedProtocol)
    }
    return Self.pointer(value)
  }

  /// Of a packet of either `version` (4, else 6); an IPv4 destination is in the low half.
  @inlinable @inline(__always)
  public func lookup(
    spi: UInt32, version: UInt8, destinationHigh: UInt64, destinationLow: UInt64, saProtocol: UInt8
  ) -> UnsafeMutablePointer<gw_sa>? {
    version == 4
      ? lookup(spi: spi, destination4: UInt32(truncatingIfNeeded: destinationLow), saProtocol: saProtocol)
      : lookup(spi: spi, destinationHigh: destinationHigh, destinationLow: destinationLow, saProtocol: saProtocol)
  }

  /// Under this protocol (RFC 3692's first) inbound IPComp tunnels stand for packets that did not shrink, which come as
  /// IP in IP (RFC 3173 2.2). They are found where no IPIP SA has the same ends.
  @inlinable static var uncompressedProtocol: UInt8 { 253 }

  /// IPIP carries no SPI: its SAs stand under this number made from the tunnel's source (halves in host byte order;
  /// IPv4 in the low word, which is then the number itself). For IPComp the SPI is `UInt32(CPI).bigEndian`.
  @inlinable @inline(__always)
  public static func ipipSPI(sourceHigh: UInt64, sourceLow: UInt64) -> UInt32 {
    sourceHigh == 0 && sourceLow >> 32 == 0 ? UInt32(truncatingIfNeeded: sourceLow) : fold(sourceHigh, sourceLow)
  }

  @inlinable @inline(__always)
  static func key(_ spi: UInt32, _ destination: UInt32) -> UInt64 { UInt64(spi) << 32 | UInt64(destination) }

  @inlinable @inline(__always)
  static func fold(_ high: UInt64, _ low: UInt64) -> UInt32 {
    UInt32(truncatingIfNeeded: ((high ^ (low << 23 | low >> 41)) &* 0x9e37_79b9_7f4a_7c15) >> 32)
  }

  @inlinable @inline(__always)
  static func pointer(_ value: UInt64) -> UnsafeMutablePointer<gw_sa>? {
    UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: value & 0xffff_ffff_ffff))
  }
}

/// The SAD's owner: control thread only. It does not own the SAs. Each direction has a table of its own, so that no reader
/// of the one meets an SA of the other; an identity is that of one SA of both.
public final class SAD {
  private let inboundIndex: HashIndex
  private let outboundIndex: HashIndex
  private let reclaimer: any Reclaimer

  /// - Parameter capacity: SAs that fit into either table before it first grows (it doubles then).
  public init(capacity: Int = 0, reclaimer: any Reclaimer) {
    self.reclaimer = reclaimer
    func index() -> HashIndex {
      HashIndex(capacity: capacity, seed: UInt64.random(in: 0...UInt64.max), reclaimer: reclaimer)
    }
    inboundIndex = index()
    outboundIndex = index()
  }

  public var inbound: InboundSAD { InboundSAD(table: SADReader(index: inboundIndex.reader)) }
  public var outbound: SADReader { SADReader(index: outboundIndex.reader) }
  public var count: Int { inboundIndex.count + outboundIndex.count }
  /// Bytes held, SAs not counted.
  public var footprint: Int { inboundIndex.footprint + outboundIndex.footprint }

  /// The table of an SA's direction, which does not change while the SA stands.
  private func index(of sa: UnsafeMutablePointer<gw_sa>) -> HashIndex {
    sa.pointee.flags & GW_SA_INBOUND.rawValue != 0 ? inboundIndex : outboundIndex
  }

  /// Publishes an SA. False if one with its identity stands, whatever its direction. Its identity must not change while it
  /// is in the table.
  ///
  /// An inbound IPComp tunnel stands behind IPIP's number too, see `SADReader.uncompressedProtocol`.
  public func insert(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    if let standing = lookup(like: sa), standing.pointee.sa_protocol == sa.pointee.sa_protocol { return false }
    index(of: sa).insert(key: Self.key(sa), value: Self.value(sa))
    if Self.isCompressedTunnel(sa) { inboundIndex.insert(key: Self.plainKey(sa), value: Self.plainValue(sa)) }
    return true
  }

  /// Puts `new` into the place of `old`, which has the same identity and direction: readers see the one or the other.
  /// `free` runs when none can hold `old` any more: by the caller, who retires it.
  public func replace(_ old: UnsafeMutablePointer<gw_sa>, by new: UnsafeMutablePointer<gw_sa>) -> Bool {
    let index = index(of: old)
    precondition(Self.key(old) == Self.key(new) && self.index(of: new) === index)
    if Self.isCompressedTunnel(old), Self.plainKey(old) == Self.plainKey(new) {
      _ = inboundIndex.replace(key: Self.plainKey(old), value: Self.plainValue(old), by: Self.plainValue(new))
    } else if Self.isCompressedTunnel(old) {
      removePlain(old)
      inboundIndex.insert(key: Self.plainKey(new), value: Self.plainValue(new))
    }
    return index.replace(key: Self.key(old), value: Self.value(old), by: Self.value(new))
  }

  /// Unpublishes an SA; `free` runs when no reader can hold it any more. False if it is not in the table.
  public func remove(_ sa: UnsafeMutablePointer<gw_sa>, free: @escaping () -> Void = {}) -> Bool {
    guard let release = index(of: sa).remove(key: Self.key(sa), value: Self.value(sa)) else { return false }
    if Self.isCompressedTunnel(sa) { removePlain(sa) }
    reclaimer.retire {
      release()
      free()
    }
    return true
  }

  private func removePlain(_ sa: UnsafeMutablePointer<gw_sa>) {
    guard let release = inboundIndex.remove(key: Self.plainKey(sa), value: Self.plainValue(sa)) else { return }
    reclaimer.retire(release)
  }

  /// The SA that stands under an identity, whatever its direction.
  public func lookup(spi: UInt32, destination: IPAddress, saProtocol: UInt8) -> UnsafeMutablePointer<gw_sa>? {
    let (high, low) = destination.halves
    return lookup(
      wireSPI: spi.bigEndian, version: destination.family == .v4 ? 4 : 6, high: high, low: low, saProtocol: saProtocol)
  }

  private func lookup(like sa: UnsafeMutablePointer<gw_sa>) -> UnsafeMutablePointer<gw_sa>? {
    lookup(
      wireSPI: sa.pointee.spi, version: Self.isV6(sa) ? 6 : 4, high: sa.pointee.destination_high,
      low: sa.pointee.destination_low, saProtocol: sa.pointee.sa_protocol)
  }

  private func lookup(
    wireSPI spi: UInt32, version: UInt8, high: UInt64, low: UInt64, saProtocol: UInt8
  ) -> UnsafeMutablePointer<gw_sa>? {
    func found(_ reader: SADReader) -> UnsafeMutablePointer<gw_sa>? {
      reader.lookup(
        spi: spi, version: version, destinationHigh: high, destinationLow: low, saProtocol: saProtocol)
    }
    return found(inbound.table) ?? found(outbound)
  }

  private static func isV6(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    sa.pointee.flags & GW_SA_OUTER_V6.rawValue != 0
  }

  private static func key(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt64 { key(sa.pointee.spi, sa) }

  private static func key(_ spi: UInt32, _ sa: UnsafeMutablePointer<gw_sa>) -> UInt64 {
    let (high, low) = (sa.pointee.destination_high, sa.pointee.destination_low)
    let destination = isV6(sa) ? SADReader.fold(high, low) : UInt32(truncatingIfNeeded: low)
    return SADReader.key(spi, destination)
  }

  private static func value(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt64 {
    value(sa, saProtocol: sa.pointee.sa_protocol)
  }

  private static func value(_ sa: UnsafeMutablePointer<gw_sa>, saProtocol: UInt8) -> UInt64 {
    let address = UInt64(UInt(bitPattern: sa))
    precondition(address >> 48 == 0)
    return UInt64(saProtocol) << 48 | (isV6(sa) ? 1 << 56 : 0) | address
  }

  private static func isCompressedTunnel(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    let wanted = GW_SA_INBOUND.rawValue | GW_SA_TUNNEL.rawValue
    return sa.pointee.sa_protocol == IPComp.ipProtocol && sa.pointee.flags & wanted == wanted
  }

  private static func plainKey(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt64 {
    let spi = SADReader.ipipSPI(sourceHigh: sa.pointee.source_high, sourceLow: sa.pointee.source_low)
    return key(spi, sa)
  }

  private static func plainValue(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt64 {
    value(sa, saProtocol: SADReader.uncompressedProtocol)
  }
}
