import Engines

/// A VICI message, and each section within one: named values in order.
public struct VICISection: Sendable, Equatable {
  public enum Value: Sendable, Equatable {
    case text([UInt8])
    /// As `text` on the wire; wiped here.
    case secret(SecretBytes)
    case list([[UInt8]])
    case section(VICISection)
  }

  public struct Entry: Sendable, Equatable {
    public var name: String
    public var value: Value
  }

  public var entries: [Entry] = []

  public init() {}

  public init(_ values: KeyValuePairs<String, String>) {
    for (name, text) in values { set(name, text) }
  }

  public var isEmpty: Bool { entries.isEmpty }

  // MARK: Writing

  public mutating func set(_ name: String, _ text: String) { set(name, value: .text(Array(text.utf8))) }
  public mutating func set(_ name: String, list: [String]) { set(name, value: .list(list.map { Array($0.utf8) })) }
  public mutating func set(_ name: String, section: VICISection) { set(name, value: .section(section)) }

  public mutating func set(_ name: String, value: Value) {
    if let index = entries.firstIndex(where: { $0.name == name }) {
      entries[index].value = value
    } else {
      entries.append(Entry(name: name, value: value))
    }
  }

  // MARK: Reading

  public subscript(name: String) -> Value? { entries.first { $0.name == name }?.value }

  /// Text of a daemon, what is no UTF-8 in it replaced.
  public func text(_ name: String) -> String? {
    if case .text(let bytes)? = self[name] { String(decoding: bytes, as: UTF8.self) } else { nil }
  }

  public func number(_ name: String) -> UInt64? { text(name).flatMap { UInt64($0) } }

  public func list(_ name: String) -> [String] {
    if case .list(let items)? = self[name] { items.map { String(decoding: $0, as: UTF8.self) } } else { [] }
  }

  public func section(_ name: String) -> VICISection? {
    if case .section(let section)? = self[name] { section } else { nil }
  }

  public var sections: [(name: String, section: VICISection)] {
    entries.compactMap { entry in
      if case .section(let section) = entry.value { (entry.name, section) } else { nil }
    }
  }
}
