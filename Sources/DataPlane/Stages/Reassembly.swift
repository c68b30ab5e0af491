import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Fragments addressed to the gateway itself. What may be IPsec is put together here, within the limits of rte_ip_frag's
/// table; the rest goes to the kernel in pieces.
enum Reassembly {
  /// Protocols that are IPsec or may carry it. Their policy is looked up when the datagram is whole.
  static func takes(_ ipProtocol: UInt8) -> Bool {
    switch ipProtocol {
    case IPProtocol.esp, IPProtocol.ah, IPProtocol.ipcomp, IPProtocol.udp, IPProtocol.ipip, IPProtocol.ipv6: true
    default: false
    }
  }

  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard takes(packet.pointee.ipProtocol) else {
      HostStage.deliver(w, packet)
      return
    }
    if put(w, packet) { w.sort(packet) }
  }

  /// Fragments that a transport-mode SA would protect: looked up again when they are whole.
  @inline(never)
  static func beforeTransport(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard put(w, packet) else { return }
    packet.pointee.policy = nil
    packet.pointee.sa = nil
    w.enqueueForPolicy(packet)
  }

  /// True: `packet` is the whole datagram now.
  private static func put(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    guard let table = w.pointee.reassembly else {
      w.drop(packet, .fragmentLimit)
      return false
    }
    let mbuf = packet.pointee.mbuf
    let offset = UInt16(truncatingIfNeeded: packet.pointee.ip - mbuf.data)
    let now = cdpdk_cycles()
    let whole: Mbuf?
    if packet.pointee.version == 4 {
      whole = cdpdk_reassemble_ipv4(table, mbuf, now, offset)
    } else {
      let headers = IPv6ExtensionHeaders(IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip)))
      guard headers.fragmentHeaderOffset == UInt16(IPv6Header.length) else {
        w.drop(packet, .fragmentMalformed)
        return false
      }
      whole = cdpdk_reassemble_ipv6(table, mbuf, now, offset, offset &+ headers.fragmentHeaderOffset)
    }
    guard let whole else { return false }
    return complete(w, whole, packet, offset: Int(offset))
  }

  private static func complete(_ w: WorkerPointer, _ chain: Mbuf, _ packet: PacketPointer, offset: Int) -> Bool {
    packet.pointee.mbuf = chain
    guard let mbuf = chain.pointee.nb_segs == 1 ? chain : Segments.linearize(w, chain) else {
      w.drop(packet, .multiSegment)
      return false
    }
    packet.pointee.mbuf = mbuf
    packet.pointee.ip = mbuf.data + offset
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len) - offset)
    // The library leaves the checksum of the new header to others.
    if packet.pointee.version == 4 {
      let header = IPv4Header(checked: UnsafeRawPointer(packet.pointee.ip))
      IPv4Header.setChecksum(packet.pointee.ip, headerLength: header.headerLength)
    }
    let refused = packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard refused == nil, !packet.pointee.isFragment else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    return true
  }

  /// Frees what has waited too long. Once a round.
  @inline(__always)
  static func collect(_ w: WorkerPointer) {
    guard let table = w.pointee.reassembly else { return }
    let freed = cdpdk_reassembly_collect(table, cdpdk_cycles())
    if freed > 0 { (w.pointee.drops + Int(DropReason.reassemblyTimeout.rawValue)).add(Int(freed)) }
  }
}
