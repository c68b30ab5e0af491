import Engines
import Wire

/// UDP encapsulation of ESP (RFC 3948).
public struct UDPEncapsulation: Hashable, Sendable {
  public var sourcePort: UInt16
  public var destinationPort: UInt16
  public init(sourcePort: UInt16 = 4500, destinationPort: UInt16 = 4500) {
    self.sourcePort = sourcePort
    self.destinationPort = destinationPort
  }
}

/// How the DF bit of an IPv4 tunnel header is made (RFC 4301 8.1).
public enum DFPolicy: UInt8, Sendable, Hashable { case copy, set, clear }

/// XFRM's mark: a packet's or template's value under a mask.
public struct Mark: Hashable, Sendable {
  public var value: UInt32
  public var mask: UInt32
  public init(value: UInt32 = 0, mask: UInt32 = 0) {
    self.value = value
    self.mask = mask
  }
}

/// Everything that is asked of an SA: what `ipsec.conf`, PF_KEY and XFRM fill in and what `show sa` prints.
/// A plain value of the control thread; the data path sees the `SecurityAssociation` made from it.
public struct SAParameters: Sendable {
  public var spi: UInt32
  public var source: IPAddress
  public var destination: IPAddress
  public var saProtocol: SAProtocol
  public var mode: SAMode
  public var transform: CryptoTransform
  /// IPComp only.
  public var compression: CompressionAlgorithm?
  public var encapsulation: UDPEncapsulation?
  /// In packets; 0: no anti-replay (an explicit choice). Rounded up to a multiple of 32.
  public var replayWindow: UInt32
  public var extendedSequenceNumbers: Bool
  /// The last sequence number used or seen, for SAs that are taken over.
  public var sequence: UInt64 = 0
  public var replayHighest: UInt64 = 0
  public var soft: Lifetime
  public var hard: Lifetime
  public var requestID: UInt32
  /// Inner traffic the SA may carry; nil: what its policy says.
  public var selector: Selector?
  /// Inbound, outbound or both where the key protocol does not say (nil: by whether `destination` is ours).
  public var direction: PolicyDirection?
  public var sourceIdentity: Identity?
  public var destinationIdentity: Identity?
  public var mark: Mark?
  public var interfaceID: UInt32
  public var df: DFPolicy
  /// False: ECN is not copied (RFC 6040 compatibility mode).
  public var ecn: Bool
  /// Nil: DSCP is copied from the inner header.
  public var dscp: UInt8?
  /// AH over IPv4 with its header a multiple of 64 bits: what Linux sends and expects unless told `align4`, though
  /// RFC 4302 2.6 wants 32.
  public var alignsAHTo64Bits = false
  /// Pad every packet up to this many bytes of payload (TFC); 0: none.
  public var tfcPadding: UInt32
  public var owner: Owner
  /// The PF_KEY/XFRM sequence number (the answer to an ACQUIRE carries it).
  public var keySequence: UInt32 = 0
  /// The SA of this bundle that is applied after this one (ipsec.conf `bundle`, GRPSPIS).
  public var bundledWith: SAIdentifier?

  public init(
    spi: UInt32, source: IPAddress, destination: IPAddress, saProtocol: SAProtocol = .esp, mode: SAMode = .tunnel,
    transform: CryptoTransform = CryptoTransform(encryption: .null), replayWindow: UInt32 = 64,
    extendedSequenceNumbers: Bool = false, owner: Owner = .configuration
  ) {
    self.spi = spi
    self.source = source
    self.destination = destination
    self.saProtocol = saProtocol
    self.mode = mode
    self.transform = transform
    self.replayWindow = replayWindow
    self.extendedSequenceNumbers = extendedSequenceNumbers
    self.owner = owner
    soft = .unlimited
    hard = .unlimited
    requestID = 0
    interfaceID = 0
    df = .copy
    ecn = true
    tfcPadding = 0
  }

  public var identifier: SAIdentifier {
    SAIdentifier(spi: spi, destination: destination, saProtocol: saProtocol)
  }
}
