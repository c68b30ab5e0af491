import CLayout
import DPDK
import IPsec
import Wire

/// Inbound SAs that are not ESP.
enum OtherInbound {
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    InboundStage.drop(w, packet, sa, .noSA)
  }
}
