/// All that a worker looks up for IPsec. A plain value; copying is free.
public struct SecurityTables: Sendable {
  public let sad: SADReader
  public let spd: SPDReader

  @inlinable public init(sad: SADReader, spd: SPDReader) {
    self.sad = sad
    self.spd = spd
  }
}
