import IPsec
import Wire

extension SAProtocol: Codable {
  static let apiNames: KeyValuePairs<String, SAProtocol> = [
    "esp": .esp, "ah": .ah, "ipcomp": .ipcomp, "ipip": .ipip,
  ]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension SAMode: Codable {
  static let apiNames: KeyValuePairs<String, SAMode> = ["tunnel": .tunnel, "transport": .transport]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension SAState: Codable {
  static let apiNames: KeyValuePairs<String, SAState> = [
    "larval": .larval, "mature": .mature, "dying": .dying, "dead": .dead,
  ]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension DFPolicy: Codable {
  static let apiNames: KeyValuePairs<String, DFPolicy> = ["copy": .copy, "set": .set, "clear": .clear]
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension PolicyDirection: Codable {
  static let apiNames: KeyValuePairs<String, PolicyDirection> = ["in": .in, "out": .out, "forward": .forward]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension PolicyType: Codable {
  static let apiNames: KeyValuePairs<String, PolicyType> = [
    "use": .use, "acquire": .acquire, "require": .require, "bypass": .bypass, "deny": .deny, "dontacq": .dontacq,
  ]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

/// `configuration`, `pfkey:N`, `xfrm:N`; N is the session's number.
extension Owner: Codable {
  public var apiName: String {
    switch self {
    case .configuration: "configuration"
    case .pfkey(let session): "pfkey:\(session)"
    case .xfrm(let session): "xfrm:\(session)"
    }
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    let parts = text.split(separator: ":", maxSplits: 1)
    switch (parts.first, parts.count == 2 ? UInt64(parts[1]) : nil) {
    case ("configuration", nil) where parts.count == 1: self = .configuration
    case ("pfkey", let session?): self = .pfkey(session)
    case ("xfrm", let session?): self = .xfrm(session)
    default: throw decoder.refusal("\"\(text.prefix(64))\" is none of configuration, pfkey:N, xfrm:N")
    }
  }

  public func encode(to encoder: any Encoder) throws { try encoder.text(apiName) }
}

extension Identity: Codable {
  static let kindNames: KeyValuePairs<String, Kind> = [
    "reserved": .reserved, "prefix": .prefix, "fqdn": .fqdn, "ufqdn": .ufqdn, "asn1_dn": .asn1DN,
  ]
  enum CodingKeys: String, CodingKey { case kind, text }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      kind: try fields.superDecoder(forKey: .kind).named(Self.kindNames),
      text: try fields.decode(String.self, forKey: .text))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(ControlAPI.apiName(kind, Self.kindNames), forKey: .kind)
    try fields.encode(text, forKey: .text)
  }
}

extension Mark: Codable {
  enum CodingKeys: String, CodingKey { case value, mask }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      value: try fields.decode(UInt32.self, forKey: .value), mask: try fields.value(.mask, default: UInt32.max))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(value, forKey: .value)
    try fields.encode(mask, forKey: .mask)
  }
}

extension UDPEncapsulation: Codable {
  enum CodingKeys: String, CodingKey {
    case sourcePort = "source_port"
    case destinationPort = "destination_port"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      sourcePort: try fields.value(.sourcePort, default: 4500),
      destinationPort: try fields.value(.destinationPort, default: 4500))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(sourcePort, forKey: .sourcePort)
    try fields.encode(destinationPort, forKey: .destinationPort)
  }
}

extension Lifetime: Codable {
  enum CodingKeys: String, CodingKey {
    case packets, bytes
    case addTime = "add_seconds"
    case useTime = "use_seconds"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      packets: try fields.value(.packets, default: 0), bytes: try fields.value(.bytes, default: 0),
      addTime: try fields.value(.addTime, default: 0), useTime: try fields.value(.useTime, default: 0))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(packets, forKey: .packets)
    try fields.encode(bytes, forKey: .bytes)
    try fields.encode(addTime, forKey: .addTime)
    try fields.encode(useTime, forKey: .useTime)
  }
}

extension Usage: Codable {
  enum CodingKeys: String, CodingKey {
    case packets, bytes
    case added = "added_seconds"
    case firstUsed = "first_used_seconds"
    case lastUsed = "last_used_seconds"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init()
    packets = try fields.value(.packets, default: 0)
    bytes = try fields.value(.bytes, default: 0)
    added = try fields.value(.added, default: 0)
    firstUsed = try fields.value(.firstUsed, default: 0)
    lastUsed = try fields.value(.lastUsed, default: 0)
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(packets, forKey: .packets)
    try fields.encode(bytes, forKey: .bytes)
    try fields.encode(added, forKey: .added)
    try fields.encode(firstUsed, forKey: .firstUsed)
    try fields.encode(lastUsed, forKey: .lastUsed)
  }
}
