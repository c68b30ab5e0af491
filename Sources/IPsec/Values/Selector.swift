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
}
