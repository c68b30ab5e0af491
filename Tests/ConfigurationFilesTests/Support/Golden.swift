import Foundation
import Testing
import Wire

@testable import ConfigurationFiles

/// `.in` and `.ok` pairs under `Golden/`. `UPDATE_GOLDEN=1` writes the `.ok` files anew: read the difference before
/// committing it.
enum Golden {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Golden")

  static func names(prefix: String) -> [String] {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path())) ?? []
    return files.filter { $0.hasPrefix(prefix) && $0.hasSuffix(".in") }.map { String($0.dropLast(3)) }.sorted()
  }

  static func input(_ name: String) throws -> String {
    try String(contentsOf: folder.appending(path: "\(name).in"), encoding: .utf8)
  }

  /// Compares with `NAME.ok`, or makes it.
  static func check(_ output: String, _ name: String) throws {
    let file = folder.appending(path: "\(name).ok")
    if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
      try output.write(to: file, atomically: true, encoding: .utf8)
      return
    }
    let wanted = try String(contentsOf: file, encoding: .utf8)
    if output != wanted { Issue.record("\(name): got\n\(output)\nwanted\n\(wanted)") }
  }
}

/// ipsecctl with `-n`: what a run with these flags leaves on a terminal, stderr first.
enum IPsecctl {
  static let resolver = HostResolver(
    interfaces: {
      ["lo0": [IPAddress("127.0.0.1"), IPAddress("::1")].compactMap(\.self), "empty0": []]
    },
    lookup: { name in
      ["gw.example.org": [IPAddress("192.0.2.7"), IPAddress("2001:db8::7")].compactMap(\.self)][name] ?? []
    })

  static func run(_ text: String, flags: String, macros: [Macro] = []) -> String {
    let options = PrintOptions(
      verbosity: flags.count { $0 == "v" }, showsKeys: flags.contains("k"), deletes: flags.contains("d"),
      hostname: "host.example.org")
    var lines: [String]
    let echo: [IPsecConf.Echo]
    do {
      let conf = try IPsecConf.parse(text: text, macros: macros, resolver: resolver)
      lines = conf.diagnostics.map(\.description)
      if options.verbosity > 1 { lines += conf.unusedMacros.map { "warning: macro '\($0)' not used" } }
      echo = conf.echo
    } catch {
      lines = error.lines()
      echo = error.echo
    }
    let output = RulePrinter(options: options).output(echo)
    lines += output.diagnostics.map(\.description)
    return lines.map { $0 + "\n" }.joined() + output.text
  }
}
