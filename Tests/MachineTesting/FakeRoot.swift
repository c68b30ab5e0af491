import Foundation
import Machine

/// A folder that stands for a machine's root.
public final class FakeRoot: Sendable {
  public let path = NSTemporaryDirectory() + "gw-machine-\(UUID().uuidString)"
  public var files: MachineFiles { MachineFiles(root: path) }

  public init(_ texts: [String: String] = [:], links: [String: String] = [:]) throws {
    for (name, text) in texts { try write(name, text) }
    for (name, target) in links { try link(name, target) }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  public func write(_ name: String, _ text: String) throws {
    try folder(of: name)
    try text.write(toFile: path + name, atomically: false, encoding: .utf8)
  }

  public func text(_ name: String) -> String? { try? String(contentsOfFile: path + name, encoding: .utf8) }

  public func link(_ name: String, _ target: String) throws {
    try folder(of: name)
    try FileManager.default.createSymbolicLink(atPath: path + name, withDestinationPath: target)
  }

  private func folder(of name: String) throws {
    let folder = (path + name as NSString).deletingLastPathComponent
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }
}
