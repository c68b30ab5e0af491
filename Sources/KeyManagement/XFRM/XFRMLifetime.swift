import IPsec

/// `struct xfrm_lifetime_cfg`, 64 bytes. In XFRM no limit is all ones for bytes and packets, zero for seconds.
struct XFRMLimits: Equatable, Sendable {
  static let infinite = UInt64.max

  var softBytes = infinite
  var hardBytes = infinite
  var softPackets = infinite
  var hardPackets = infinite
  var softAdd: UInt64 = 0
  var hardAdd: UInt64 = 0
  var softUse: UInt64 = 0
  var hardUse: UInt64 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    softBytes = cursor.uint64()
    hardBytes = cursor.uint64()
    softPackets = cursor.uint64()
    hardPackets = cursor.uint64()
    softAdd = cursor.uint64()
    hardAdd = cursor.uint64()
    softUse = cursor.uint64()
    hardUse = cursor.uint64()
  }

  func encode(into builder: inout ByteBuilder) {
    for limit in [softBytes, hardBytes, softPackets, hardPackets, softAdd, hardAdd, softUse, hardUse] {
      builder.append(limit)
    }
  }

  init(soft: Lifetime, hard: Lifetime) {
    softBytes = soft.bytes == 0 ? Self.infinite : soft.bytes
    hardBytes = hard.bytes == 0 ? Self.infinite : hard.bytes
    softPackets = soft.packets == 0 ? Self.infinite : soft.packets
    hardPackets = hard.packets == 0 ? Self.infinite : hard.packets
    softAdd = soft.addTime
    hardAdd = hard.addTime
    softUse = soft.useTime
    hardUse = hard.useTime
  }

  var soft: Lifetime { Self.lifetime(packets: softPackets, bytes: softBytes, add: softAdd, use: softUse) }
  var hard: Lifetime { Self.lifetime(packets: hardPackets, bytes: hardBytes, add: hardAdd, use: hardUse) }

  private static func lifetime(packets: UInt64, bytes: UInt64, add: UInt64, use: UInt64) -> Lifetime {
    func finite(_ value: UInt64) -> UInt64 { value == infinite ? 0 : value }
    return Lifetime(packets: finite(packets), bytes: finite(bytes), addTime: finite(add), useTime: finite(use))
  }
}

/// `struct xfrm_lifetime_cur`, 32 bytes. Times are wall-clock seconds.
struct XFRMUsage: Equatable, Sendable {
  var bytes: UInt64 = 0
  var packets: UInt64 = 0
  var added: UInt64 = 0
  var used: UInt64 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    bytes = cursor.uint64()
    packets = cursor.uint64()
    added = cursor.uint64()
    used = cursor.uint64()
  }

  func encode(into builder: inout ByteBuilder) {
    for value in [bytes, packets, added, used] { builder.append(value) }
  }

  /// The use time of an SA is that of its first use, as the kernel has it; its last comes in XFRMA_LASTUSED.
  init(sa usage: Usage) {
    bytes = usage.bytes
    packets = usage.packets
    added = usage.added
    used = usage.firstUsed
  }

  /// The use time of a policy is that of its last use: what charon's dead peer detection goes by.
  init(policy usage: Usage) {
    bytes = usage.bytes
    packets = usage.packets
    added = usage.added
    used = usage.lastUsed
  }
}
