/// Which tunnels, in which order, and how much of each: the query of `GET /v1/tunnels`.
public struct TunnelQuery: Sendable, Hashable {
  public enum Order: String, Sendable, CaseIterable {
    case name
    /// Most bits in the last second first.
    case rate
    /// Most drops first.
    case drops
    /// Those that changed their state last first.
    case age
    /// Down first, then connecting.
    case state
    /// As they were made.
    case made
  }

  /// Exactly so called; nil: all.
  public var name: String?
  /// Part of the name or of the peer's address, in any case of letters.
  public var filter: String?
  public var states: Set<TunnelStatus.State>?
  public var order = Order.name
  /// So many of the first are left out.
  public var offset = 0
  public var limit: Int?
  public var withAssociations = true
  public var withHistory = false

  public init() {}

  /// The path of the API that asks for it.
  public var path: String {
    var items: [String] = []
    if let name { items.append("name=" + Self.escaped(name)) }
    if let filter { items.append("filter=" + Self.escaped(filter)) }
    for state in states?.map(\.rawValue).sorted() ?? [] { items.append("state=" + state) }
    if order != .name { items.append("sort=" + order.rawValue) }
    if offset > 0 { items.append("offset=\(offset)") }
    if let limit { items.append("limit=\(limit)") }
    if !withAssociations { items.append("sas=0") }
    if withHistory { items.append("history=1") }
    return "/v1/tunnels" + (items.isEmpty ? "" : "?" + items.joined(separator: "&"))
  }

  /// - Parameter values: what a name has in the query, as it stands there.
  public init(_ values: (String) -> [String]) throws(ControlError) {
    func one(_ name: String) throws(ControlError) -> String? {
      let all = values(name)
      guard all.count < 2 else { throw ControlError(.malformed, "\(name) is there twice") }
      guard let text = all.first else { return nil }
      guard let plain = Self.unescaped(text) else { throw ControlError(.malformed, "\(name) is no text") }
      return plain
    }
    func flag(_ name: String, _ usual: Bool) throws(ControlError) -> Bool {
      switch try one(name) {
      case nil: usual
      case "0": false
      case "1": true
      default: throw ControlError(.malformed, "\(name) is 0 or 1")
      }
    }
    name = try one("name")
    filter = try one("filter")
    for text in values("state") {
      guard let state = TunnelStatus.State(rawValue: text) else {
        throw ControlError(.malformed, "state is one of up, static, connecting, down")
      }
      states = (states ?? []).union([state])
    }
    if let text = try one("sort") {
      guard let order = Order(rawValue: text) else {
        throw ControlError(
          .malformed, "sort is one of \(Order.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      self.order = order
    }
    if let text = try one("offset") {
      guard let number = Int(text), number >= 0 else { throw ControlError(.malformed, "offset is a number") }
      offset = number
    }
    if let text = try one("limit") {
      guard let number = Int(text), number > 0 else { throw ControlError(.malformed, "limit is a number above 0") }
      limit = number
    }
    withAssociations = try flag("sas", true)
    withHistory = try flag("history", false)
  }

  private static func escaped(_ text: String) -> String {
    text.utf8.map { byte in
      let isPlain = byte < 0x80 && (Character(UnicodeScalar(byte)).isLetter || Character(UnicodeScalar(byte)).isNumber)
      if isPlain || "-._~/:".utf8.contains(byte) { return String(UnicodeScalar(byte)) }
      return "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }.joined()
  }

  private static func unescaped(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
