/// Something that setup does, and what takes it back.
struct SetupStep: Equatable {
  enum Action: Equatable {
    case write(path: String, text: String, mode: UInt16)
    case run([String])
  }

  /// For people, in the plan.
  var text: String
  var action: Action
  /// Commands that take it back. What was written is put back without any.
  var undo: [[String]] = []
  /// Failing is not fatal.
  var isOptional = false

  static func write(_ path: String, _ text: String, mode: UInt16 = 0o644, _ why: String) -> SetupStep {
    SetupStep(text: "write \(path): \(why)", action: .write(path: path, text: text, mode: mode))
  }

  static func run(_ words: String, _ why: String, undo: [String] = [], isOptional: Bool = false) -> SetupStep {
    func split(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }
    return SetupStep(
      text: "\(words): \(why)", action: .run(split(words)), undo: undo.map(split), isOptional: isOptional)
  }
}

/// How to take a step back; kept on disk until the next setup.
enum UndoAction: Codable, Equatable {
  case remove(path: String)
  case restore(path: String, text: String, mode: UInt16)
  case run([String])
}
