import CLinux
import Routing
import Wire

/// A neighbour as RTM_NEWNEIGH describes it.
struct KernelNeighbor: Equatable {
  var index: Int32
  var address: IPAddress
  var mac: MACAddress?
  var state: NeighborState

  /// `struct ndmsg`, 12 bytes, and attributes. Nil for bridges' entries, proxies, groups and what has no station
  /// address.
  init?(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= 12 else { return nil }
    let fields = NetlinkBytes(bytes: payload)
    index = fields.load(4, as: Int32.self)
    var address: IPAddress?
    for attribute in NetlinkAttributes(fields.slice(from: 12)) {
      switch attribute.type {
      case Int(NDA_DST): address = IPAddress(bytes: attribute.value)
      case Int(NDA_LLADDR) where attribute.value.count == 6:
        mac = MACAddress(rawValue: attribute.value.reduce(0) { $0 << 8 | UInt64($1) })
      default: break
      }
    }
    let isProxy = Int32(fields.load(10, as: UInt8.self)) & NTF_PROXY != 0
    guard let address, !isProxy, address.family.rawValue == fields.load(0, as: UInt8.self),
      !Martian.isSource(address) || Self.isLinkLocal(address)
    else { return nil }
    self.address = address
    let number = Int32(fields.load(8, as: UInt16.self))
    state = Self.state(number)
    let isUsable = number & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT) != 0
    if !isUsable || mac?.isMulticast == true || mac?.rawValue == 0 { mac = nil }
  }

  private static func isLinkLocal(_ address: IPAddress) -> Bool {
    if case .v6(let address) = address { Martian.isLinkLocal(address) } else { false }
  }

  /// linux/neighbour.h: NUD_*.
  private static func state(_ number: Int32) -> NeighborState {
    if number & NUD_FAILED != 0 { return .failed }
    if number & (NUD_REACHABLE | NUD_PERMANENT) != 0 { return .reachable }
    if number & (NUD_STALE | NUD_DELAY | NUD_PROBE) != 0 { return .stale }
    return .incomplete
  }
}
