import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Wire

/// ESP for this gateway that came before its SA: a peer sends by a new SA as soon as it has agreed to it, which may be
/// before the key daemon here has read the answer. It has the SPI from here, so the gateway knows of that much.
enum EarlyESP {
  /// True: the packet, for which the SAD has nothing, waits at the host thread. `header`: of ESP.
  @inline(never)
  static func waits(_ w: WorkerPointer, _ packet: PacketPointer, _ header: UnsafeMutableRawPointer) -> Bool {
    let spi = header.loadUnaligned(as: UInt32.self)
    guard packet.pointee.ipProtocol == ESP.ipProtocol, w.pointee.shared.pointee.expected.mayHold(spi),
      packet.pointee.origin == .clear, packet.pointee.depth == 0, !packet.pointee.isFragment,
      w.adjacency(of: packet).pointee.kind == .local
    else { return false }
    MissingSA.wait(w, packet, .waitsForSPI, spi, orDrop: .noSA)
    return true
  }
}
