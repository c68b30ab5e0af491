import Wire

/// Which packets a policy or SA is for (RFC 4301 4.4.1.1), seen in the direction the packets flow.
public struct Selector: Hashable, Sendable {
  public var source: IPPrefix
  public var destination: IPPrefix
  /// Nil: any protocol.
  public var ipProtocol: UInt8?
  /// For ICMP: types. Full range: any, and packets whose ports are not visible match too.
  public var sourcePorts: ClosedRange<UInt16>
  /// For ICMP: codes.
  public var destinationPorts: ClosedRange<UInt16>

  public static let anyPort: ClosedRange<UInt16> = 0...UInt16.max

  public init(
    source: IPPrefix, destination: IPPrefix, ipProtocol: UInt8? = nil,
    sourcePorts: ClosedRange<UInt16> = Self.anyPort, destinationPorts: ClosedRange<UInt16> = Self.anyPort
  ) {
    self.source = source
    self.destination = destination
    self.ipProtocol = ipProtocol
    self.sourcePorts = sourcePorts
    self.destinationPorts = destinationPorts
  }

  /// The same traffic seen the other way.
  public var mirrored: Selector {
    Selector(
      source: destination, destination: source, ipProtocol: ipProtocol, sourcePorts: destinationPorts,
      destinationPorts: sourcePorts)
  }

  public var family: AddressFamily { source.family }

  /// Whether every packet of `other` is one of this selector.
  public func covers(_ other: Selector) -> Bool {
    source.contains(other.source) && destination.contains(other.destination)
      && (ipProtocol == nil || ipProtocol == other.ipProtocol)
      && sourcePorts.contains(other.sourcePorts) && destinationPorts.contains(other.destinationPorts)
  }

  /// The packets that are of both; nil: there are none.
  public func intersection(_ other: Selector) -> Selector? {
    guard let source = source.intersection(other.source),
      let destination = destination.intersection(other.destination),
      sourcePorts.overlaps(other.sourcePorts), destinationPorts.overlaps(other.destinationPorts),
      ipProtocol == nil || other.ipProtocol == nil || ipProtocol == other.ipProtocol
    else { return nil }
    return Selector(
      source: source, destination: destination, ipProtocol: ipProtocol ?? other.ipProtocol,
      sourcePorts: sourcePorts.clamped(to: other.sourcePorts),
      destinationPorts: destinationPorts.clamped(to: other.destinationPorts))
  }
}
