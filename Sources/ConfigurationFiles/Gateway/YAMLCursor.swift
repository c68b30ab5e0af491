import Yams

/// A node of the file with its key path: reads values of the right type or says what is wrong and where.
struct YAMLCursor {
  let file: String
  let path: String
  let node: Node

  func fail(_ message: String) -> ConfigurationError {
    ConfigurationError(file: file, line: node.mark?.line, column: node.mark?.column, path: path, message: message)
  }

  private func expected(_ what: String) -> ConfigurationError { fail("expected \(what), found \(found)") }

  /// The node in words, cut to a length that fits a line.
  private var found: String {
    switch node {
    case .scalar(let scalar):
      if scalar.isPlain && scalar.string.isEmpty { return "nothing" }
      let text = scalar.string.count > 60 ? "\(scalar.string.prefix(60))…" : scalar.string
      return scalar.isPlain ? "'\(text)'" : "the string \"\(text)\""
    case .sequence: return "a list"
    case .mapping: return "a mapping"
    case .alias: return "an alias"
    }
  }

  /// An empty or `null` value: as if the key were not there.
  var isNull: Bool {
    guard case .scalar(let scalar) = node, scalar.isPlain else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
  }

  func string(_ what: String = "a string") throws(ConfigurationError) -> String {
    guard case .scalar(let scalar) = node, !scalar.string.isEmpty else { throw expected(what) }
    guard !scalar.string.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
      throw fail("expected \(what) without control characters")
    }
    return scalar.string
  }

  func bool() throws(ConfigurationError) -> Bool {
    guard case .scalar(let scalar) = node, scalar.isPlain else { throw expected("true or false") }
    switch scalar.string {
    case "true", "True", "TRUE": return true
    case "false", "False", "FALSE": return false
    default: throw expected("true or false")
    }
  }

  func int(_ range: ClosedRange<Int>, unit: String = "") throws(ConfigurationError) -> Int {
    let what = "a number from \(range.lowerBound) to \(range.upperBound)\(unit.isEmpty ? "" : " (\(unit))")"
    guard case .scalar(let scalar) = node, scalar.isPlain, scalar.string.utf8.first?.isASCIIDigit == true,
      let value = Int(scalar.string.replacing("_", with: "")), range.contains(value)
    else { throw expected(what) }
    return value
  }

  /// One of an enumeration's raw values, with a suggestion for what looks like one.
  func choice<Choice: RawRepresentable & CaseIterable>(_: Choice.Type) throws(ConfigurationError) -> Choice
  where Choice.RawValue == String {
    let names = Choice.allCases.map(\.rawValue)
    guard case .scalar(let scalar) = node else { throw expected(names.joined(separator: ", ")) }
    guard let choice = Choice(rawValue: scalar.string) else {
      let hint = Suggestion.closest(to: scalar.string, among: names).map { "; did you mean '\($0)'?" } ?? ""
      throw fail("expected \(names.joined(separator: " or ")), found \(found)\(hint)")
    }
    return choice
  }

  /// Text that a type reads for itself.
  func value<Value: LosslessStringConvertible>(
    _: Value.Type, _ what: String
  ) throws(ConfigurationError) -> Value {
    guard case .scalar(let scalar) = node, let value = Value(scalar.string) else { throw expected(what) }
    return value
  }

  /// The items of a list; none where the value is empty.
  func list(_ what: String, limit: Int) throws(ConfigurationError) -> [YAMLCursor] {
    if isNull { return [] }
    guard case .sequence(let sequence) = node else { throw expected("a list of \(what)") }
    guard sequence.count <= limit else { throw fail("expected at most \(limit) \(what), found \(sequence.count)") }
    return sequence.enumerated().map { YAMLCursor(file: file, path: "\(path)[\($0)]", node: $1) }
  }

  /// The values of a mapping, each key one of `keys`.
  func mapping(_ keys: [String]) throws(ConfigurationError) -> [String: YAMLCursor] {
    if isNull { return [:] }
    guard case .mapping(let mapping) = node else {
      throw expected("a mapping with the keys \(keys.joined(separator: ", "))")
    }
    var values: [String: YAMLCursor] = [:]
    for (key, value) in mapping {
      let keyCursor = YAMLCursor(file: file, path: path, node: key)
      guard case .scalar(let scalar) = key else { throw keyCursor.fail("expected a key, found \(keyCursor.found)") }
      let name = scalar.string
      guard keys.contains(name) else {
        let hint = Suggestion.closest(to: name, among: keys).map { "did you mean '\($0)'?" }
        throw keyCursor.fail("unknown key '\(name)'; \(hint ?? "expected one of \(keys.joined(separator: ", "))")")
      }
      let cursor = YAMLCursor(file: file, path: path.isEmpty ? name : "\(path).\(name)", node: value)
      if !cursor.isNull { values[name] = cursor }
    }
    return values
  }

  /// A key that must be there.
  func require(
    _ key: String, in values: [String: YAMLCursor], _ what: String
  ) throws(ConfigurationError) -> YAMLCursor {
    guard let cursor = values[key] else { throw fail("'\(key)' is missing: expected \(what)") }
    return cursor
  }
}

extension Node.Scalar {
  /// Not quoted, so a number or a truth value where one is asked for.
  fileprivate var isPlain: Bool { style == .plain || style == .any }
}
