import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Fragments addressed to the gateway itself. What may be IPsec is put together here, within the limits of rte_ip_frag's
/// table; the rest goes to the kernel in pieces.
enum Reassembly {
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer) {
    switch packet.pointee.ipProtocol {
    case IPProtocol.esp, IPProtocol.ah, IPProtocol.ipcomp, IPProtocol.udp, IPProtocol.ipip, IPProtocol.ipv6: break
    default:
      HostStage.deliver(w, packet)
      return
    }
    guard let table = w.pointee.reassembly else {
      w.drop(packet, .fragmentLimit)
      return
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
        return
      }
      whole = cdpdk_reassemble_ipv6(table, mbuf, now, offset, headers.fragmentHeaderOffset)
    }
    guard let whole else { return }
    complete(w, whole, packet, offset: Int(offset))
  }

  private static func complete(_ w: WorkerPointer, _ chain: Mbuf, _ packet: PacketPointer, offset: Int) {
    packet.pointee.mbuf = chain
    guard let mbuf = chain.pointee.nb_segs == 1 ? chain : Segments.linearize(w, chain) else {
      w.drop(packet, .multiSegment)
      return
    }
    packet.pointee.mbuf = mbuf
    packet.pointee.ip = mbuf.data + offset
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len) - offset)
    let refused = packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard refused == nil, !packet.pointee.isFragment else {
      w.drop(packet, .fragmentMalformed)
      return
    }
    w.sort(packet)
  }

  /// Frees what has waited too long. Once a round.
  @inline(__always)
  static func collect(_ w: WorkerPointer) {
    guard let table = w.pointee.reassembly else { return }
    let freed = cdpdk_reassembly_collect(table, cdpdk_cycles())
    if freed > 0 { (w.pointee.drops + Int(DropReason.reassemblyTimeout.rawValue)).add(Int(freed)) }
  }
}
