import Engines

extension CharonConfiguration {
  /// The same as a swanctl.conf(5). Its section names cannot have dots and colons: those are dashes there.
  /// - Parameter showsKeys: pre-shared keys as they are; else a word in their place.
  public func swanctl(showsKeys: Bool) -> String {
    var lines = ["connections {"]
    for connection in connections {
      lines.append("  \(Self.name(connection.name)) {")
      Self.append(connection.section, depth: 2, to: &lines)
      lines.append("  }")
    }
    lines += ["}", "secrets {"]
    for secret in secrets {
      lines.append("  ike-\(Self.name(secret.id)) {")
      for (index, owner) in secret.message.list("owners").enumerated() {
        lines.append("    id-\(index + 1) = \(owner)")
      }
      if case .secret(let key)? = secret.message["data"] {
        lines.append("    secret = " + (showsKeys ? "0x" + key.revealedHex() : "\"(not shown)\""))
      }
      lines.append("  }")
    }
    return (lines + ["}"]).joined(separator: "\n") + "\n"
  }

  private static func append(_ section: VICISection, depth: Int, to lines: inout [String]) {
    let indent = String(repeating: "  ", count: depth)
    for entry in section.entries {
      switch entry.value {
      case .text(let bytes): lines.append("\(indent)\(entry.name) = \(quoted(String(decoding: bytes, as: UTF8.self)))")
      case .list(let items):
        let texts = items.map { String(decoding: $0, as: UTF8.self) }
        // Raw public keys are files there.
        guard entry.name != "pubkeys" else { continue }
        lines.append("\(indent)\(entry.name) = \(texts.joined(separator: ", "))")
      case .section(let section):
        lines.append("\(indent)\(name(entry.name)) {")
        append(section, depth: depth + 1, to: &lines)
        lines.append("\(indent)}")
      case .secret: break
      }
    }
  }

  private static func quoted(_ text: String) -> String {
    text.contains { $0 == " " || $0 == "#" || $0 == "," || $0 == "=" || $0 == ":" }
      ? "\"" + text.filter { $0 != "\"" && $0 != "\\" } + "\"" : text
  }

  private static func name(_ text: String) -> String {
    String(text.map { ".:{}=#,\"\\ \t".contains($0) ? "-" : $0 })
  }
}
