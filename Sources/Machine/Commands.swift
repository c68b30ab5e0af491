import Foundation

/// Programs of the system that are asked or told something. Tests put in what they answer.
public struct Commands: Sendable {
  public struct Outcome: Sendable, Equatable {
    public var status: Int32
    public var output: String

    public init(status: Int32, output: String = "") {
      self.status = status
      self.output = output
    }
  }

  private let body: @Sendable ([String]) -> Outcome

  public init(_ body: @escaping @Sendable ([String]) -> Outcome) { self.body = body }

  /// Standard output and error together. Status 127: there is no such program.
  public func run(_ words: [String]) -> Outcome { body(words) }

  /// What the program printed, if it ended well.
  public func output(_ words: String...) -> String? {
    let outcome = body(words)
    return outcome.status == 0 ? outcome.output : nil
  }

  /// This machine's, found in root's PATH.
  public static let system = Commands { words in
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"] + words
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    do { try process.run() } catch { return Outcome(status: 127, output: "\(error)") }
    let text = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Outcome(status: process.terminationStatus, output: String(decoding: text, as: UTF8.self))
  }
}
