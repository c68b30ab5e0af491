import CLinux
import Wire

/// A network interface as RTM_NEWLINK describes it.
struct KernelLink: Equatable {
  /// IFF_UP of linux/if.h.
  static let up: UInt32 = 1

  var index: Int32
  var flags: UInt32
  var name = ""
  var mtu: UInt32 = 0
  var mac: MACAddress?

  var isUp: Bool { flags & Self.up != 0 }

  /// `struct ifinfomsg`, 16 bytes, and attributes.
  init?(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= 16 else { return nil }
    let fields = NetlinkBytes(bytes: payload)
    index = fields.load(4, as: Int32.self)
    flags = fields.load(8, as: UInt32.self)
    for attribute in NetlinkAttributes(fields.slice(from: 16)) {
      switch attribute.type {
      case Int(IFLA_IFNAME): name = attribute.string
      case Int(IFLA_MTU): mtu = attribute.uint32
      case Int(IFLA_ADDRESS) where attribute.value.count == 6:
        mac = MACAddress(rawValue: attribute.value.reduce(0) { $0 << 8 | UInt64($1) })
      default: break
      }
    }
  }
}
