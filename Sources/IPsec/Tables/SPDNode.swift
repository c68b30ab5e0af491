import CLayout
import Synchronization

/// How `gw_spd_node` is read. What it leads to is a cell: the policies of one selector but for ranges of ports, linked
/// by rank.
extension gw_spd_node {
  /// Cells that stand in the node itself.
  @inlinable static var capacity: Int { 10 }
  /// `cells` of a node without any.
  @inlinable static var noCells: UInt64 { 1 }
}

extension UnsafeMutablePointer where Pointee == gw_spd_node {
  /// (its own length : 16, the node above : 48)
  @inlinable @inline(__always) var linkAtomic: UnsafeMutablePointer<Atomic<UInt64>> { atomicField(self, 0) }
  @inlinable @inline(__always) var rankAtomic: UnsafeMutablePointer<Atomic<UInt64>> { atomicField(self, 8) }
  /// Odd: twice the number of cells that stand in it, plus 1; some may be 0. Even: (flags in use : 16, the fan : 48).
  @inlinable @inline(__always) var cellsAtomic: UnsafeMutablePointer<Atomic<UInt64>> { atomicField(self, 16) }

  @inlinable @inline(__always) func cellAtomic(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    atomicField(self, 24 &+ place &* 8)
  }

  @inlinable @inline(__always)
  static func up(_ link: UInt64) -> UnsafeMutablePointer<gw_spd_node>? {
    UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: link & 0xffff_ffff_ffff))
  }

  @inlinable @inline(__always)
  static func length(_ link: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: link >> 48) }

  // MARK: The writer's

  // Each by a pointer of its own: `pointee.cell_count += 1` is a write access to the whole record, which readers read.
  var cellCount: UnsafeMutablePointer<UInt32> { count(120) }
  /// Policies with a priority.
  var prioritised: UnsafeMutablePointer<UInt32> { count(124) }

  private func count(_ offset: Int) -> UnsafeMutablePointer<UInt32> {
    (UnsafeMutableRawPointer(self) + offset).assumingMemoryBound(to: UInt32.self)
  }

  var length: UInt8 { Self.length(linkAtomic.pointee.load(ordering: .relaxed)) }
  var up: UnsafeMutablePointer<gw_spd_node>? { Self.up(linkAtomic.pointee.load(ordering: .relaxed)) }
  var fan: UnsafeMutablePointer<gw_spd_fan>? { SPDCells.fan(cellsAtomic.pointee.load(ordering: .relaxed)) }

  func store(up: UnsafeMutablePointer<gw_spd_node>?) { store(length: length, up: up) }

  func store(length: UInt8, up: UnsafeMutablePointer<gw_spd_node>?) {
    linkAtomic.pointee.store(UInt64(length) << 48 | UInt64(UInt(bitPattern: up)), ordering: .releasing)
  }
}

/// The words that lead to cells.
@usableFromInline
enum SPDCells {
  /// (tag of the destination : 9, bit of its length : 7, the first policy : 48)
  @inlinable @inline(__always)
  static func policy(_ cell: UInt64) -> UnsafeMutablePointer<gw_policy> {
    UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: cell & 0xffff_ffff_ffff)).unsafelyUnwrapped
  }

  @inlinable @inline(__always)
  static func bit(_ cell: UInt64) -> Int { Int(truncatingIfNeeded: cell >> 48 & 127) }

  @inlinable @inline(__always)
  static func word<Key: PrefixKey>(
    _ policy: UnsafeMutablePointer<gw_policy>, _ destination: Key, bit: Int
  ) -> UInt64 {
    let masked = destination & Key.mask(Key.shortestLength(ofBit: bit))
    return masked.tag << 55 | UInt64(bit) << 48 | UInt64(UInt(bitPattern: policy))
  }

  /// Nil: the cells stand in the node.
  @inlinable @inline(__always)
  static func fan(_ cells: UInt64) -> UnsafeMutablePointer<gw_spd_fan>? {
    if cells & 1 != 0 { return nil }
    return UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: cells & 0xffff_ffff_ffff))
  }

  /// The value of a cell in the table of cells: (flags : 3, tag of what it names of protocol and ports : 13, the first
  /// policy : 48)
  static func value(_ policy: UnsafeMutablePointer<gw_policy>, flags: UInt32, upper: UInt64) -> UInt64 {
    UInt64(flags) << 61 | upperTag(upper) << 48 | UInt64(UInt(bitPattern: policy))
  }

  @inlinable @inline(__always)
  static func upperTag(_ upper: UInt64) -> UInt64 { (upper &* 0x9e37_79b9_7f4a_7c15) >> 51 }

  /// Whether a cell can be for this packet.
  @inlinable @inline(__always)
  static func isPossible(_ value: UInt64, _ key: UnsafePointer<gw_flow_key>) -> Bool {
    let upper = upper(
      UInt32(truncatingIfNeeded: value >> 61), ipProtocol: key.pointee.ip_protocol, sourcePort: key.pointee.source_port,
      destinationPort: key.pointee.destination_port)
    return upperTag(upper) == value >> 48 & 0x1fff
  }

  /// Where in a fan's filter a pair of prefixes leaves its mark.
  @inlinable @inline(__always)
  static func mark(_ key: UInt64) -> (word: Int, bit: UInt64) {
    (Int(truncatingIfNeeded: ((key >> 32) &* 6) >> 32), 1 &<< (key & 63))
  }

  /// What a cell goes by in the table of cells; `upper` is 0 for those that go by their prefixes alone.
  @inlinable @inline(__always)
  static func key<Key: PrefixKey>(
    _ node: UnsafeMutablePointer<gw_spd_node>, _ destination: Key, length: UInt8, upper: UInt64
  ) -> UInt64 {
    let rest = upper ^ UInt64(length) << 56
    return SPDReader.mix(SPDReader.mix(UInt64(UInt(bitPattern: node)), destination.folded), rest)
  }

  /// In `upper` of cells that go by protocol and ports.
  @inlinable static var named: UInt64 { 1 << 52 }

  /// What the selectors with these flags name of protocol and ports, and the flags.
  @inlinable @inline(__always)
  static func upper(_ flags: UInt32, ipProtocol: UInt8, sourcePort: UInt16, destinationPort: UInt16) -> UInt64 {
    var upper = UInt64(flags) << 48
    if flags & GW_CELL_PROTOCOL.rawValue != 0 { upper |= UInt64(ipProtocol) }
    if flags & GW_CELL_SOURCE_PORT.rawValue != 0 { upper |= UInt64(sourcePort) << 16 }
    if flags & GW_CELL_DESTINATION_PORT.rawValue != 0 { upper |= UInt64(destinationPort) << 32 }
    return upper
  }
}
