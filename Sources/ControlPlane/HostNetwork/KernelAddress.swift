import CLinux
import Routing
import Wire

/// An interface's address as RTM_NEWADDR describes it.
struct KernelAddress: Hashable {
  var index: Int32
  var address: LocalAddress

  init(index: Int32, address: LocalAddress) {
    self.index = index
    self.address = address
  }

  /// `struct ifaddrmsg`, 8 bytes, and attributes. On point-to-point links IFA_LOCAL is the own address and IFA_ADDRESS
  /// the peer's.
  init?(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= 8 else { return nil }
    let fields = NetlinkBytes(bytes: payload)
    var local: IPAddress?
    var peer: IPAddress?
    for attribute in NetlinkAttributes(fields.slice(from: 8)) {
      switch attribute.type {
      case Int(IFA_LOCAL): local = IPAddress(bytes: attribute.value)
      case Int(IFA_ADDRESS): peer = IPAddress(bytes: attribute.value)
      default: break
      }
    }
    index = Int32(bitPattern: fields.load(4, as: UInt32.self))
    guard let own = local ?? peer, own.family.rawValue == fields.load(0, as: UInt8.self) else { return nil }
    let length = peer == nil || peer == own ? fields.load(1, as: UInt8.self) : own.family.bits
    guard let address = LocalAddress(own, length: length) else { return nil }
    self.address = address
  }
}
