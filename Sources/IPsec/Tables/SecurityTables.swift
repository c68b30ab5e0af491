/// All that a worker looks up for IPsec. A plain value; copying is free.
public struct SecurityTables: Sendable {
  /// Where packets find the SAs that open them.
  public let inbound: InboundSAD
  /// The SAs that seal, for who knows one by name.
  public let outbound: SADReader
  public let spd: SPDReader

  @inlinable public init(inbound: InboundSAD, outbound: SADReader, spd: SPDReader) {
    self.inbound = inbound
    self.outbound = outbound
    self.spd = spd
  }
}
