import Foundation
import Testing

@testable import ConfigurationFiles

/// Each `conf-*.in` begins with `# flags: …`; its `.ok` is what ipsecctl prints with them.
@Suite struct IPsecConfGoldenTests {
  @Test(arguments: Golden.names(prefix: "conf-")) func prints(_ name: String) throws {
    let input = try Golden.input(name).replacing("FOLDER", with: Golden.folder.path())
    let first = input.prefix { $0 != "\n" }
    let flags = first.hasPrefix("# flags: ") ? String(first.dropFirst(9)) : "v"
    let output = IPsecctl.run(input, flags: flags)
    try Golden.check(output.replacing(Golden.folder.path(), with: "FOLDER"), name)
  }

  /// OpenBSD's own regress/sbin/ipsecctl, where a copy of it is at hand: `OPENBSD_REGRESS=folder`.
  @Test func openBSDRegress() throws {
    guard let folder = ProcessInfo.processInfo.environment["OPENBSD_REGRESS"] else { return }
    for file in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() where file.hasSuffix(".in") {
      let name = String(file.dropLast(3))
      guard let input = try? String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8),
        let wanted = try? String(contentsOfFile: "\(folder)/\(name).ok", encoding: .utf8)
      else { continue }
      let flags = name.hasPrefix("sa") && !name.hasPrefix("safail") || name.hasPrefix("tcp") ? "kv" : "v"
      let output = IPsecctl.run(
        input.replacing("DIR", with: folder), flags: name.hasPrefix("ikedel") ? "dv" : flags)
      if output != wanted { Issue.record("\(name): got\n\(output)\nwanted\n\(wanted)") }
    }
  }
}
