import Wire

extension IPAddress: Codable {
  public init(from decoder: any Decoder) throws { self = try decoder.parsed("an IP address") }
  public func encode(to encoder: any Encoder) throws { try encoder.text(self) }
}

extension IPPrefix: Codable {
  public init(from decoder: any Decoder) throws { self = try decoder.parsed("an IP prefix") }
  public func encode(to encoder: any Encoder) throws { try encoder.text(self) }
}

extension MACAddress: Codable {
  public init(from decoder: any Decoder) throws { self = try decoder.parsed("a MAC address") }
  public func encode(to encoder: any Encoder) throws { try encoder.text(self) }
}
