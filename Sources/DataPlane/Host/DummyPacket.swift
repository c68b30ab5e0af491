import Wire

/// A dummy packet to be sent (RFC 4303 2.6): by which ESP tunnel SA, and how many bytes of content.
public struct DummyPacket: Sendable {
  public var spi: UInt32
  public var destination: IPAddress
  public var length: Int

  public init(spi: UInt32, destination: IPAddress, length: Int) {
    self.spi = spi
    self.destination = destination
    self.length = length
  }
}
