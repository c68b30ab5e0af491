import Glibc

/// An `ipsec.conf`, read in full: OpenBSD's grammar, defaults and errors.
///
/// Limits: a file has at most 16 MiB, files include each other at most 16 deep and never themselves, a word has at most
/// 8095 bytes, lists stand at most 64 deep in each other, and all lists expand to at most 100,000 rules.
///
/// Departures from OpenBSD's reader: lines of included files are counted from 1, an SPI that is no number is an error with
/// a text, IPv6 addresses found by name are hosts (/128), negative lengths are refused.
public struct IPsecConf: Sendable {
  public static let ruleLimit = 100_000

  /// What `-v` prints, in order.
  public enum Echo: Sendable {
    case macro(name: String, value: String)
    case rule(Rule)
  }

  public var echo: [Echo]
  /// What goes to stderr though the file is good.
  public var diagnostics: [Diagnostic]
  /// What OpenBSD does not say: weak algorithms, key files that others can read.
  public var cautions: [Diagnostic]
  /// Macros that nothing uses, in the order of definition; `-vv` warns of them.
  public var unusedMacros: [String]

  public var rules: [Rule] {
    echo.compactMap {
      if case .rule(let rule) = $0 { rule } else { nil }
    }
  }

  /// Reads a file, or stdin for `-`. Only root or the user may own it, and no one else read or change it.
  public static func parse(
    file: String, macros: [Macro] = [], resolver: HostResolver = .system()
  ) throws(IPsecConfError) -> IPsecConf {
    var lexer = Lexer()
    do {
      try lexer.sources.push(file: file, secret: true)
    } catch {
      throw IPsecConfError(diagnostics: [Diagnostic(.program, error.message)])
    }
    return try parse(lexer, macros, resolver)
  }

  /// Reads text; `name` is what errors call it.
  public static func parse(
    text: String, name: String = "stdin", macros: [Macro] = [], resolver: HostResolver = .system()
  ) throws(IPsecConfError) -> IPsecConf {
    guard text.utf8.count <= SourceStack.fileSizeLimit else {
      throw IPsecConfError(diagnostics: [Diagnostic(.program, "\(name): file too large")])
    }
    var lexer = Lexer()
    lexer.sources.push(text: Array(text.utf8), name: name)
    return try parse(lexer, macros, resolver)
  }

  private static func parse(
    _ lexer: Lexer, _ macros: [Macro], _ resolver: HostResolver
  ) throws(IPsecConfError) -> IPsecConf {
    var lexer = lexer
    for macro in macros { lexer.macros.set(macro.name, macro.value, persistent: true) }
    var parser = Parser(lexer: lexer, resolver: resolver)
    return try parser.parse()
  }
}
