import CLayout
import DPDK
import IPsec

/// A worker's memory for AH, IPComp and packets that pass through several SAs. Allocated at start, owned by the worker;
/// a single ESP tunnel touches none of it.
struct ProtocolScratch {
  static var layersPerPacket: Int { Int(InboundStage.maximumDepth) }

  /// By packet: the SAs it came out of, the outermost first.
  let layers: UnsafeMutablePointer<UnsafeMutablePointer<gw_sa>?>
  /// By job: `KeptImage`s.
  let images: UnsafeMutableRawPointer
  let deflate: Deflate
  let history: CompressionHistory
}

/// What AH's image replaced in a packet, while the engine works on it.
struct KeptImage {
  /// Count of header bytes (2), the received ICV field from 16 on, the headers from 64 on.
  /// Computed: a stored one would be set up lazily, behind a check for each packet.
  static var stride: Int { 64 + (AHImage.maximumLength + 63) / 64 * 64 }

  let base: UnsafeMutableRawPointer

  /// Where a received ICV field is kept: `AH.maximumICVField` bytes.
  var icvField: UnsafeMutableRawPointer { base + 16 }

  /// The bytes of headers that are kept.
  var count: Int { Int(base.load(as: UInt16.self)) }

  /// At most `AHImage.maximumLength`.
  func keep(_ headers: UnsafeMutableRawPointer, count: Int) {
    base.storeBytes(of: UInt16(truncatingIfNeeded: count), as: UInt16.self)
    (base + 64).copyMemory(from: headers, byteCount: count)
  }

  func restore(_ headers: UnsafeMutableRawPointer) { headers.copyMemory(from: base + 64, byteCount: count) }
}

extension UnsafeMutablePointer where Pointee == Worker {
  func keptImage(_ index: Int) -> KeptImage { KeptImage(base: pointee.scratch.images + index &* KeptImage.stride) }

  /// The packet is about to get another SA: the one it came out of last is written down.
  @inline(never)
  func rememberLayer(_ packet: PacketPointer) {
    guard let sa = packet.pointee.sa else { return }
    layerMemory(packet)[Int(packet.pointee.depth) &- 1] = sa
  }

  /// The SAs that a packet from a tunnel came out of, `depth` of them, the outermost first.
  func layers(of packet: PacketPointer) -> UnsafePointer<UnsafeMutablePointer<gw_sa>> {
    let memory = layerMemory(packet)
    memory[Int(packet.pointee.depth) &- 1] = packet.pointee.sa
    return UnsafeRawPointer(memory).assumingMemoryBound(to: UnsafeMutablePointer<gw_sa>.self)
  }

  private func layerMemory(_ packet: PacketPointer) -> UnsafeMutablePointer<UnsafeMutablePointer<gw_sa>?> {
    pointee.scratch.layers + (packet - pointee.records.base) &* ProtocolScratch.layersPerPacket
  }
}
