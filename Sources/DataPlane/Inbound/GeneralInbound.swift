import CLayout
import DPDK
import Engines
import IPsec
import Wire

/// Inbound SAs that are not ESP.
enum GeneralInbound {
  /// True: `job`, number `index` of the burst, is filled. False: the packet went on without, or nowhere.
  @inline(never)
  static func prepare(
    _ w: WorkerPointer, _ packet: PacketPointer, _ opener: InboundSA,
    _ job: UnsafeMutablePointer<CryptoJob>, index: Int
  ) -> Bool {
    let sa = opener.record
    switch sa.pointee.sa_protocol {
    case AH.ipProtocol: return AHStage.open(w, packet, opener, job, index: index)
    case IPComp.ipProtocol: IPCompStage.open(w, packet, sa)
    case IPProtocol.ipip: IPIPStage.open(w, packet, sa)
    default: w.drop(packet, sa, .noSA)
    }
    return false
  }
}
