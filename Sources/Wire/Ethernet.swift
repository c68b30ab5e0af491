/// Ethernet types that the gateway knows.
public enum EtherType {
  public static let ipv4: UInt16 = 0x0800
  public static let arp: UInt16 = 0x0806
  public static let vlan: UInt16 = 0x8100
  public static let ipv6: UInt16 = 0x86dd
}

/// An Ethernet II frame, with one 802.1Q tag or none:
///
///     destination(6) source(6) [0x8100(2) tag(2)] type(2)
public struct Ethernet {
  public static let headerLength = 14
  public static let taggedHeaderLength = 18
  /// The shortest frame on a wire, without its FCS.
  public static let minimumFrameLength = 60

  public let base: UnsafeRawPointer
  /// 14, or 18 with a tag.
  public let headerLength: Int

  @inlinable public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.headerLength else { return nil }
    let isTagged = base.big16(at: 12) == EtherType.vlan
    guard !isTagged || length >= Self.taggedHeaderLength else { return nil }
    self.base = base
    headerLength = isTagged ? Self.taggedHeaderLength : Self.headerLength
  }

  @inlinable public var destination: MACAddress { base.macAddress(at: 0) }
  @inlinable public var source: MACAddress { base.macAddress(at: 6) }
  /// The type of what follows the header, behind a tag if there is one.
  @inlinable public var etherType: UInt16 { base.big16(at: headerLength &- 2) }
  /// The VLAN of a tagged frame.
  @inlinable public var vlan: UInt16? {
    headerLength == Self.taggedHeaderLength ? base.big16(at: 14) & 0xfff : nil
  }
  @inlinable public var payload: UnsafeRawPointer { base + headerLength }

  /// Writes the 14 bytes of an untagged header.
  @inlinable @inline(__always)
  public static func write(
    _ base: UnsafeMutableRawPointer, destination: MACAddress, source: MACAddress, etherType: UInt16
  ) {
    base.setAddress(destination, at: 0)
    base.setAddress(source, at: 6)
    base.setBig16(etherType, at: 12)
  }
}
