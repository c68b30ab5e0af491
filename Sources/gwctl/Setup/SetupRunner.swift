import Foundation
import Machine

/// Carries a plan out, and takes it back.
struct SetupRunner {
  static let journal = "/var/lib/gw-setup/undo.json"

  struct StepFailed: Error, CustomStringConvertible {
    let description: String
  }

  let files: MachineFiles
  let commands: Commands
  let say: (String) -> Void

  /// Whether gwd runs; asked again and again for a minute.
  var isGatewayUp: () -> Bool = { false }
  var pause: () -> Void = { usleep(500_000) }
  var attempts = 120

  /// All of it; where a step fails or the gateway does not come up, none of it: then it throws.
  func run(_ plan: SetupPlan) throws {
    var undone: [UndoAction] = []
    do {
      for step in plan.steps {
        say(step.text)
        // What takes a step back is on disk before it is done.
        undone += undoActions(step)
        try save(undone)
        try perform(step)
      }
      try waitForGateway()
    } catch {
      say("\(error)")
      say("taking everything back")
      undo(undone)
      throw error
    }
  }

  private func waitForGateway() throws {
    for _ in 0..<attempts {
      if isGatewayUp() { return }
      pause()
    }
    let log = commands.output("journalctl", "-u", "gwd", "-n", "5", "-o", "cat", "--no-pager") ?? ""
    throw StepFailed(description: "gwd did not come up within a minute\n\(log)")
  }

  // MARK: Back

  /// What the last setup changed. False: there is nothing to take back.
  func undoLast() throws -> Bool {
    guard let data = FileManager.default.contents(atPath: files.path(Self.journal)) else { return false }
    undo(try JSONDecoder().decode([UndoAction].self, from: data))
    return true
  }

  /// Last first; goes on whatever fails, because each step back is worth something by itself.
  private func undo(_ actions: [UndoAction]) {
    for action in actions.reversed() {
      switch action {
      case .remove(let path): try? FileManager.default.removeItem(atPath: files.path(path))
      case .restore(let path, let text, let mode): try? write(path, text, mode)
      case .run(let words):
        let outcome = commands.run(words)
        if outcome.status != 0 { say("\(words.joined(separator: " ")): \(outcome.output)") }
      }
    }
    try? FileManager.default.removeItem(atPath: files.path(Self.journal))
  }

  private func undoActions(_ step: SetupStep) -> [UndoAction] {
    // Taken back in reverse: what stands first in `undo` is done first.
    let commands = step.undo.reversed().map { UndoAction.run($0) }
    guard case .write(let path, _, _) = step.action, !path.hasPrefix("/sys/") else { return commands }
    guard let data = FileManager.default.contents(atPath: files.path(path)) else {
      return commands + [.remove(path: path)]
    }
    var status = stat()
    let mode = stat(files.path(path), &status) == 0 ? UInt16(status.st_mode & 0o7777) : 0o644
    return commands + [.restore(path: path, text: String(decoding: data, as: UTF8.self), mode: mode)]
  }

  // MARK: Steps

  private func perform(_ step: SetupStep) throws {
    switch step.action {
    case .write(let path, let text, let mode):
      try write(path, text, mode)
    case .run(let words):
      let outcome = commands.run(words)
      guard outcome.status == 0 || step.isOptional else {
        throw StepFailed(description: "\(words.joined(separator: " ")): \(outcome.output.trimmed)")
      }
    }
  }

  private func write(_ path: String, _ text: String, _ mode: UInt16) throws {
    let whole = files.path(path)
    let folder = (whole as NSString).deletingLastPathComponent
    // The kernel's own files are written in place.
    let isKernels = path.hasPrefix("/sys/")
    if !isKernels { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
    let flags = isKernels ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC
    let descriptor = open(whole, flags | O_CLOEXEC, mode_t(mode))
    guard descriptor >= 0 else { throw StepFailed(description: "\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    guard Foundation.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw StepFailed(description: "\(path): \(String(cString: strerror(errno)))")
    }
    if !isKernels { fchmod(descriptor, mode_t(mode)) }
  }

  private func save(_ actions: [UndoAction]) throws {
    try write(Self.journal, String(decoding: try JSONEncoder().encode(actions), as: UTF8.self), 0o600)
  }
}
