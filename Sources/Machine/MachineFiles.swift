import Foundation

/// The kernel's files (/proc, /sys, /etc, …) below a root: the machine's own, or a folder that a test has made.
public struct MachineFiles: Sendable {
  public let root: String

  public init(root: String = "") { self.root = root.hasSuffix("/") ? String(root.dropLast()) : root }

  public func path(_ path: String) -> String { root + path }

  public func exists(_ path: String) -> Bool { access(root + path, F_OK) == 0 }

  /// What the file holds, without the white space around it. Nil: it cannot be read.
  public func text(_ path: String) -> String? {
    guard let data = FileManager.default.contents(atPath: root + path) else { return nil }
    return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  public func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }

  public func lines(_ path: String) -> [String] {
    text(path)?.split(separator: "\n", omittingEmptySubsequences: true).map(String.init) ?? []
  }

  /// The names in a folder, in order; empty where there is none.
  public func names(in folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: root + folder)) ?? []).sorted()
  }

  /// The last part of what a symbolic link points to.
  public func linkTarget(_ path: String) -> String? {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: root + path)).map { ($0 as NSString).lastPathComponent }
  }
}
