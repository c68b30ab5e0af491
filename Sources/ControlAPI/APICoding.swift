import Foundation

/// The JSON of the API: UTF-8, sorted keys, no escaped slashes.
public enum APICoding {
  /// - Parameter revealKeys: writes key material.
  public static func encode(_ value: some Encodable, revealKeys: Bool = false, pretty: Bool = false) throws -> Data {
    let encoder = encoder(revealKeys: revealKeys)
    if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    return try encoder.encode(value)
  }

  /// What stands between the brackets of a list, an element a line: lists may be long, and are sent and read by parts.
  public static func encodeElements(
    _ values: some Collection<some Encodable>, revealKeys: Bool = false
  ) throws -> Data {
    let encoder = encoder(revealKeys: revealKeys)
    var data = Data()
    for value in values {
      if !data.isEmpty { data += ListSplitter.separator }
      data += try encoder.encode(value)
    }
    return data
  }

  private static func encoder(revealKeys: Bool) -> JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.userInfo[.revealKeys] = revealKeys
    return encoder
  }

  /// - Parameter acceptHiddenKeys: reads SAs whose keys were withheld; they get zeros of the stated length.
  public static func decode<Value: Decodable>(
    _ type: Value.Type, from data: Data, acceptHiddenKeys: Bool = false
  ) throws(ControlError) -> Value {
    let decoder = JSONDecoder()
    decoder.userInfo[.acceptHiddenKeys] = acceptHiddenKeys
    do {
      return try decoder.decode(type, from: data)
    } catch let error as DecodingError {
      throw ControlError(.malformed, explain(error))
    } catch {
      throw ControlError(.malformed, "not JSON")
    }
  }

  /// `rules[3].sa.source: "x" is not an IP address`
  static func explain(_ error: DecodingError) -> String {
    func path(_ keys: [any CodingKey]) -> String {
      let text = keys.reduce(into: "") { text, key in
        if let index = key.intValue {
          text += "[\(index)]"
        } else {
          text += text.isEmpty ? key.stringValue : "." + key.stringValue
        }
      }
      return text.isEmpty ? "" : text + ": "
    }
    switch error {
    // Foundation reports a number that does not fit its field as it does broken JSON, without a path.
    case .dataCorrupted(let context) where context.codingPath.isEmpty && context.debugDescription.contains("JSON"):
      return "not JSON, or a number that does not fit its field"
    case .dataCorrupted(let context): return path(context.codingPath) + context.debugDescription
    case .keyNotFound(let key, let context): return path(context.codingPath + [key]) + "missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return path(context.codingPath) + "of the wrong type: " + context.debugDescription
    @unknown default: return "not understood"
    }
  }
}
