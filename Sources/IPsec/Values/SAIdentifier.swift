import Wire

/// The protocols that an SA stands for, with their IP protocol numbers.
public enum SAProtocol: UInt8, Sendable, Hashable, CaseIterable {
  case ipip = 4
  case esp = 50
  case ah = 51
  case ipcomp = 108
}

/// What names an SA on this gateway (RFC 4301 4.1). For IPComp the SPI is the CPI.
public struct SAIdentifier: Hashable, Sendable, CustomStringConvertible {
  public var spi: UInt32
  public var destination: IPAddress
  public var saProtocol: SAProtocol

  public init(spi: UInt32, destination: IPAddress, saProtocol: SAProtocol = .esp) {
    self.spi = spi
    self.destination = destination
    self.saProtocol = saProtocol
  }

  public var description: String {
    let hex = String(spi, radix: 16)
    return "\(saProtocol) to \(destination) spi 0x\(String(repeating: "0", count: 8 - hex.count))\(hex)"
  }
}

public enum SAMode: UInt8, Sendable, Hashable {
  case transport = 0
  case tunnel = 1
}

/// As PF_KEY numbers them.
public enum SAState: UInt8, Sendable, Hashable {
  case larval = 0
  case mature = 1
  case dying = 2
  case dead = 3
}

/// Which key daemon, or whom, an SA or policy belongs to: what `flush`, `on-ike-exit` and reloads go by.
public enum Owner: Hashable, Sendable {
  /// `ipsec.conf` or `gwctl load`.
  case configuration
  /// A connection of the PF_KEY socket, by its number.
  case pfkey(UInt64)
  /// A connection of the XFRM socket, by its number; sockets of one process share it.
  case xfrm(UInt64)
}
