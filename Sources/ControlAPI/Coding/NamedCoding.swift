/// Enumerations cross the API by name. Each has a table of names; an unknown one is refused with the list of those known.
extension Decoder {
  func named<Value>(_ names: [(name: String, value: Value)]) throws -> Value {
    let name = try singleValueContainer().decode(String.self)
    guard let value = names.first(where: { $0.name == name })?.value else {
      throw refusal("\"\(name.prefix(64))\" is none of \(names.map(\.name).joined(separator: ", "))")
    }
    return value
  }

  func named<Value>(_ names: KeyValuePairs<String, Value>) throws -> Value {
    try named(names.map { (name: $0.key, value: $0.value) })
  }

  /// A value that is text on the wire.
  func parsed<Value: LosslessStringConvertible>(_ what: String) throws -> Value {
    let text = try singleValueContainer().decode(String.self)
    guard let value = Value(text) else { throw refusal("\"\(text.prefix(64))\" is not \(what)") }
    return value
  }

  func refusal(_ why: String) -> DecodingError {
    .dataCorrupted(DecodingError.Context(codingPath: codingPath, debugDescription: why))
  }
}

extension Encoder {
  func name<Value: Equatable>(_ value: Value, _ names: KeyValuePairs<String, Value>) throws {
    try name(value, names.map { (name: $0.key, value: $0.value) })
  }

  func name<Value: Equatable>(_ value: Value, _ names: [(name: String, value: Value)]) throws {
    guard let name = names.first(where: { $0.value == value })?.name else {
      let context = EncodingError.Context(codingPath: codingPath, debugDescription: "no name")
      throw EncodingError.invalidValue(value, context)
    }
    var container = singleValueContainer()
    try container.encode(name)
  }

  func text(_ value: some CustomStringConvertible) throws {
    var container = singleValueContainer()
    try container.encode(value.description)
  }
}

extension KeyedDecodingContainer {
  /// A field that may be left out of a request.
  func value<Value: Decodable>(_ key: Key, default value: Value) throws -> Value {
    try decodeIfPresent(Value.self, forKey: key) ?? value
  }
}

/// The name that a value of a named enumeration has in the API and in tables.
func apiName<Value: Equatable>(_ value: Value, _ names: KeyValuePairs<String, Value>) -> String {
  names.first { $0.value == value }?.key ?? "?"
}
