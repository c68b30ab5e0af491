import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// What comes out of an SA: the next layer of a bundle, or the inner packet, which is parsed anew and goes to the SPD.
extension InboundStage {
  /// Takes the protection off: `length` bytes at `payload` are what `nextHeader` says.
  @inline(never)
  static func unwrap(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, payload: UnsafeMutableRawPointer,
    length: Int, nextHeader: UInt8
  ) {
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    if isTunnel && nextHeader == IPProtocol.ipip {
      tunnel(w, packet, sa, inner: payload, length: length, version: 4)
    } else if isTunnel && nextHeader == IPProtocol.ipv6 {
      tunnel(w, packet, sa, inner: payload, length: length, version: 6)
    } else {
      unwrapOther(w, packet, sa, payload: payload, length: length, nextHeader: nextHeader)
    }
  }

  @inline(never)
  static func unwrapOther(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, payload: UnsafeMutableRawPointer,
    length: Int, nextHeader: UInt8
  ) {
    // RFC 4303 2.6: ESP's alone.
    if nextHeader == IPProtocol.noNextHeader, sa.pointee.sa_protocol == ESP.ipProtocol {
      w.drop(packet, .espDummy)
      return
    }
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    // A tunnel's inner packet may be AH, ESP or IPComp of the same bundle: those keep the outer header.
    let isNested =
      nextHeader == IPProtocol.esp || nextHeader == IPProtocol.ah || nextHeader == IPProtocol.ipcomp
    guard !isTunnel || isNested else {
      w.drop(packet, sa, .espNextHeader)
      return
    }
    packet.pointee.depth &+= 1
    Transport.restore(packet, payload: payload, length: length, nextHeader: nextHeader)
    reparse(w, packet, sa)
  }

  /// The usual packet out of the first tunnel. False: it is another, and nothing was done.
  @inline(__always)
  static func sortInner(
    _ w: WorkerPointer, _ packet: PacketPointer, _ inner: UnsafeMutableRawPointer, length: Int
  ) -> Bool {
    let outerMarks = packet.marks
    guard packet.pointee.depth == 0, let plain = SimpleIPv4(inner, length: length),
      outerMarks & PacketMarks.opened == 0 || (outerMarks ^ plain.marks) & PacketMarks.opened == 0
    else { return false }
    let header = SimpleIPv4.header(opened: packet.header)
    guard w.sortPlain(packet, plain, inner, header, takesESP: false) else { return false }
    packet.pointee.ip = inner
    return true
  }

  @inline(__always)
  static func tunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, inner: UnsafeMutableRawPointer,
    length: Int, version: UInt8
  ) {
    let outerClass = packet.pointee.trafficClass
    packet.pointee.ip = inner
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    packet.pointee.depth &+= 1
    guard parsed(w, packet, sa, version: version) else { return }
    if outerClass & 3 != 0, sa.pointee.flags & GW_SA_NO_ECN.rawValue == 0 {
      let ecn = ECN.decapsulate(inner: packet.pointee.trafficClass, outer: outerClass)
      guard ecn != ECN.drop else {
        w.drop(packet, sa, .ecnCongestion)
        return
      }
      if ecn != packet.pointee.trafficClass & 3 { packet.setECN(ecn) }
    }
    resort(w, packet, sa)
  }

  /// Transport mode and bundles: the packet stands whole at `packet.ip` again.
  @inline(never)
  static func reparse(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    if parsed(w, packet, sa, version: packet.pointee.version) { resort(w, packet, sa) }
  }

  /// What came out of an SA; false: it is malformed, and dropped.
  @inline(__always)
  static func parsed(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, version: UInt8
  ) -> Bool {
    packet.pointee.origin = .tunnel
    guard (version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)) == nil else {
      w.drop(packet, sa, .innerMalformed)
      return false
    }
    return true
  }

  @inline(__always)
  static func resort(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    guard packet.pointee.depth < maximumDepth else {
      w.drop(packet, sa, .nestingTooDeep)
      return
    }
    // What goes to `policy` is trimmed there, unless it leaves as it is.
    if w.sort(packet) { packet.trim() }
  }
}
