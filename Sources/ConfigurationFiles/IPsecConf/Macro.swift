/// `-D NAME=VALUE`: a macro that the file cannot redefine.
public struct Macro: Sendable, Hashable {
  public var name: String
  public var value: String

  public init(name: String, value: String) {
    self.name = name
    self.value = value
  }

  /// The value follows the last `=`; nil without one.
  public init?(argument: String) {
    guard let equals = argument.lastIndex(of: "=") else { return nil }
    self.init(name: String(argument[..<equals]), value: String(argument[argument.index(after: equals)...]))
  }
}

/// The macros known so far, in the order of definition.
struct MacroTable {
  private struct Entry {
    var value: [UInt8]
    var isUsed: Bool
    var isPersistent: Bool
    var order: Int
  }
  private var entries: [String: Entry] = [:]
  private var count = 0

  /// A later definition replaces an earlier one, except one from the command line.
  mutating func set(_ name: String, _ value: String, persistent: Bool) {
    guard entries[name]?.isPersistent != true else { return }
    count += 1
    entries[name] = Entry(value: Array(value.utf8), isUsed: false, isPersistent: persistent, order: count)
  }

  mutating func use(_ name: String) -> [UInt8]? {
    entries[name]?.isUsed = true
    return entries[name]?.value
  }

  var unused: [String] { entries.filter { !$0.value.isUsed }.sorted { $0.value.order < $1.value.order }.map(\.key) }
}
