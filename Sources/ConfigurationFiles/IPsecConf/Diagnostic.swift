/// A line for stderr about an `ipsec.conf`.
public struct Diagnostic: Sendable, Hashable, CustomStringConvertible {
  public enum Form: Sendable, Hashable {
    /// `FILE: LINE: message`.
    case located(file: String, line: Int)
    /// Preceded by the program's name, as `warn(3)` and `err(3)` do.
    case program
    /// The message alone.
    case plain
  }

  public var form: Form
  public var message: String
  /// False: only a warning.
  public var isError = true

  public init(_ form: Form, _ message: String, isError: Bool = true) {
    self.form = form
    self.message = Self.withoutKeys(message)
    self.isError = isError
  }

  /// A word that stands in the wrong place may be a key, and messages go into logs and to users who see no keys: of so many
  /// hexadecimal digits in a row only the first are shown.
  private static func withoutKeys(_ message: String) -> String {
    let (shortestKey, shown) = (24, 4)
    guard message.utf8.count >= shortestKey else { return message }
    var result = ""
    var run = 0
    for scalar in message.unicodeScalars {
      run = scalar.properties.isASCIIHexDigit ? run + 1 : 0
      if run == shortestKey {
        result.unicodeScalars.removeLast(shortestKey - 1 - shown)
        result += "…"
      }
      if run < shortestKey { result.unicodeScalars.append(scalar) }
    }
    return result
  }

  public func text(program: String) -> String {
    switch form {
    case .located(let file, let line): "\(file): \(line): \(message)"
    case .program: "\(program): \(message)"
    case .plain: message
    }
  }

  public var description: String { text(program: "ipsecctl") }
}

/// An `ipsec.conf` that was refused: everything that is wrong with it, in order.
public struct IPsecConfError: Error, Sendable, CustomStringConvertible {
  public var diagnostics: [Diagnostic]
  /// What was read before and between the errors: `-v` prints it all the same.
  public var echo: [IPsecConf.Echo]
  /// OpenBSD's parser exits at once here, without "Syntax error in config file".
  public var isFatal: Bool

  public init(diagnostics: [Diagnostic], echo: [IPsecConf.Echo] = [], isFatal: Bool = false) {
    self.diagnostics = diagnostics
    self.echo = echo
    self.isFatal = isFatal
  }

  /// The lines for stderr, the closing one included.
  public func lines(program: String = "ipsecctl") -> [String] {
    diagnostics.map { $0.text(program: program) }
      + (isFatal ? [] : ["\(program): Syntax error in config file: ipsec rules not loaded"])
  }

  public var description: String { lines().joined(separator: "\n") }
}
