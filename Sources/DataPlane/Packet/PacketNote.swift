import CDPDK
import DPDK
import Wire

/// What goes with a buffer through a ring: in the mbuf's private area.
struct PacketNote {
  enum Kind: UInt8 {
    /// From the kernel: a frame of `port`.
    case fromKernel
    /// The same from a socket of the key daemon's: no policy is asked (`PolicyExemptions`).
    case fromKeyDaemon
    /// Waits for the neighbour (`nextHopHigh`, `nextHopLow`) on `port`.
    case waitsForNeighbor
    /// Waits for an SA of policy `policy`; its frame is as it was before it met the policy.
    case waitsForSA
    /// There may be one now: it meets the policies again.
    case mayHaveSA
    /// Waits for the key schedule of the SA with serial `policy`: to be protected, or as it came, to be opened.
    case waitsForKeys
    case waitsToBeOpened
    /// Waits for the SA that will have SPI `policy`, as it lies in the packet, which is as it came.
    case waitsForSPI
    /// There is one now: it is looked up again.
    case mayBeOpened
    /// A dummy packet's content, for the ESP SA with SPI `policy` to (`destinationHigh`, `destinationLow`).
    case dummy
    /// Waited, and may go on.
    case resolved
    /// Waited in vain.
    case failed
  }
  var kind: Kind
  var origin: PacketOrigin
  var version: UInt8
  var dontFragment: Bool
  /// It is the gateway's own outer packet: nobody is to be told if it cannot be sent.
  var isSealed: Bool
  var port: UInt16
  var policy: UInt32
  var nextHopHigh: UInt64
  var nextHopLow: UInt64
  var destinationHigh: UInt64
  var destinationLow: UInt64
  /// Which need not be the packet's family (RFC 5549).
  var nextHopIsIPv6 = false
  /// Of the tunnel that it came out of, if it did.
  var ends = TunnelEnds()

  var nextHop: IPAddress { IPAddress(nextHopIsIPv6 ? .v6 : .v4, high: nextHopHigh, low: nextHopLow) }
}

extension UnsafeMutablePointer where Pointee == cdpdk_mbuf {
  var note: UnsafeMutablePointer<PacketNote> { privateArea.assumingMemoryBound(to: PacketNote.self) }
}
