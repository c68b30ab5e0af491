import IPsec
import Wire

extension SATemplate: Codable {
  enum CodingKeys: String, CodingKey {
    case mode, source, destination, spi
    case saProtocol = "protocol"
    case requestID = "request_id"
    case isOptional = "optional"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      saProtocol: try fields.value(.saProtocol, default: .esp), mode: try fields.value(.mode, default: .tunnel),
      source: try fields.decode(IPAddress.self, forKey: .source),
      destination: try fields.decode(IPAddress.self, forKey: .destination),
      requestID: try fields.value(.requestID, default: 0), spi: try fields.value(.spi, default: 0),
      isOptional: try fields.value(.isOptional, default: false))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(saProtocol, forKey: .saProtocol)
    try fields.encode(mode, forKey: .mode)
    try fields.encode(source, forKey: .source)
    try fields.encode(destination, forKey: .destination)
    try fields.encode(requestID, forKey: .requestID)
    try fields.encode(spi, forKey: .spi)
    try fields.encode(isOptional, forKey: .isOptional)
  }
}

extension PolicyParameters: Codable {
  enum CodingKeys: String, CodingKey {
    case direction, selector, type, templates, priority, local, peer, mark, owner
    case sourceIdentity = "source_identity"
    case destinationIdentity = "destination_identity"
    case interfaceID = "interface_id"
    case saProtocol = "protocol"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      direction: try fields.decode(PolicyDirection.self, forKey: .direction),
      selector: try fields.decode(Selector.self, forKey: .selector),
      type: try fields.value(.type, default: .require), saProtocol: try fields.value(.saProtocol, default: .esp),
      templates: try fields.value(.templates, default: []), owner: try fields.value(.owner, default: .configuration))
    priority = try fields.decodeIfPresent(UInt32.self, forKey: .priority)
    local = try fields.decodeIfPresent(IPAddress.self, forKey: .local)
    peer = try fields.decodeIfPresent(IPAddress.self, forKey: .peer)
    sourceIdentity = try fields.decodeIfPresent(Identity.self, forKey: .sourceIdentity)
    destinationIdentity = try fields.decodeIfPresent(Identity.self, forKey: .destinationIdentity)
    mark = try fields.decodeIfPresent(Mark.self, forKey: .mark)
    interfaceID = try fields.value(.interfaceID, default: 0)
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(direction, forKey: .direction)
    try fields.encode(selector, forKey: .selector)
    try fields.encode(type, forKey: .type)
    try fields.encode(saProtocol, forKey: .saProtocol)
    try fields.encode(templates, forKey: .templates)
    try fields.encodeIfPresent(priority, forKey: .priority)
    try fields.encodeIfPresent(local, forKey: .local)
    try fields.encodeIfPresent(peer, forKey: .peer)
    try fields.encodeIfPresent(sourceIdentity, forKey: .sourceIdentity)
    try fields.encodeIfPresent(destinationIdentity, forKey: .destinationIdentity)
    try fields.encodeIfPresent(mark, forKey: .mark)
    try fields.encode(interfaceID, forKey: .interfaceID)
    try fields.encode(owner, forKey: .owner)
  }
}

/// The fields of `PolicyParameters` and beside them what has become of the policy.
extension PolicyRecord: Codable {
  enum CodingKeys: String, CodingKey { case index, usage }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      index: try fields.decode(UInt32.self, forKey: .index), parameters: try PolicyParameters(from: decoder))
    usage = try fields.value(.usage, default: Usage())
  }
  public func encode(to encoder: any Encoder) throws {
    try parameters.encode(to: encoder)
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(index, forKey: .index)
    try fields.encode(usage, forKey: .usage)
  }
}
