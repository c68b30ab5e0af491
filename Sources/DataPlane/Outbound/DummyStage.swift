import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Dummy packets (RFC 4303 2.6): sealed by a tunnel's SA as any other, with next header 59; the peer drops them. The host
/// thread makes them, so that a watcher cannot tell when there is something to say.
enum DummyStage {
  /// `Packet.version` of what is no IP packet.
  static var version: UInt8 { 0 }

  /// The SA is named by its SPI and destination, as it may be gone by now.
  @inline(never)
  static func send(_ w: WorkerPointer, _ mbuf: Mbuf, _ note: UnsafeMutablePointer<PacketNote>) {
    guard let packet = w.nextPacket(mbuf, port: Int(note.pointee.port), origin: .host) else { return w.refuse(mbuf) }
    packet.pointee.ip = mbuf.data
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len))
    packet.pointee.version = version
    packet.pointee.isFragment = false
    packet.pointee.trafficClass = 0
    packet.pointee.dontFragment = false
    let named = w.pointee.outboundSAs.lookup(
      spi: note.pointee.policy.bigEndian, version: note.pointee.version, destinationHigh: note.pointee.destinationHigh,
      destinationLow: note.pointee.destinationLow, saProtocol: IPProtocol.esp)
    guard let sa = named, sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0 else {
      w.drop(packet, .noSA)
      return
    }
    packet.pointee.sa = sa
    OutboundStage.sealAlone(w, packet, sa)
  }
}
