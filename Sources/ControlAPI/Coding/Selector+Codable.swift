import IPsec
import Wire

/// `source`, `destination`, `ip_protocol` (absent: any), `source_ports` and `destination_ports` (absent: any; else
/// `[first, last]`; types and codes for ICMP).
extension Selector: Codable {
  enum CodingKeys: String, CodingKey {
    case source, destination
    case ipProtocol = "ip_protocol"
    case sourcePorts = "source_ports"
    case destinationPorts = "destination_ports"
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      source: try fields.decode(IPPrefix.self, forKey: .source),
      destination: try fields.decode(IPPrefix.self, forKey: .destination),
      ipProtocol: try fields.decodeIfPresent(UInt8.self, forKey: .ipProtocol),
      sourcePorts: try fields.ports(.sourcePorts), destinationPorts: try fields.ports(.destinationPorts))
    guard source.family == destination.family else {
      throw decoder.refusal("source and destination are of different address families")
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(source, forKey: .source)
    try fields.encode(destination, forKey: .destination)
    try fields.encodeIfPresent(ipProtocol, forKey: .ipProtocol)
    try fields.encode(sourcePorts, .sourcePorts)
    try fields.encode(destinationPorts, .destinationPorts)
  }
}

extension KeyedDecodingContainer {
  fileprivate func ports(_ key: Key) throws -> ClosedRange<UInt16> {
    guard let ends = try decodeIfPresent([UInt16].self, forKey: key) else { return Selector.anyPort }
    guard ends.count == 2, ends[0] <= ends[1] else {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(codingPath: codingPath + [key], debugDescription: "ports are [first, last]"))
    }
    return ends[0]...ends[1]
  }
}

extension KeyedEncodingContainer {
  fileprivate mutating func encode(_ ports: ClosedRange<UInt16>, _ key: Key) throws {
    guard ports != Selector.anyPort else { return }
    try encode([ports.lowerBound, ports.upperBound], forKey: key)
  }
}
