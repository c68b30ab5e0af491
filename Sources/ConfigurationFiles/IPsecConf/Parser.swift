import IPsec

/// Why a line was given up.
enum ParseFailure: Error {
  /// A token that the grammar does not allow here.
  case syntax
  /// Something that has been reported already.
  case reported
  /// OpenBSD's `errx`: the parser ends here.
  case fatal
}

/// Recursive descent over OpenBSD's grammar. Where its yacc parser looks a token ahead, so does this one, and where that
/// one acts without looking, this one does: the lines that errors name and the rules accepted before an error agree.
struct Parser {
  var lexer: Lexer
  let resolver: HostResolver
  private var lookahead: Token?
  /// yacc's error status: no further "syntax error" until three tokens have been taken.
  private var quietTokens = 0
  var expansion = Expansion()
  var cautions: [Diagnostic] = []
  var interfaces: [String: [Host]]?
  private var echo: [IPsecConf.Echo] = []

  init(lexer: Lexer, resolver: HostResolver) {
    self.lexer = lexer
    self.resolver = resolver
  }

  // MARK: Tokens

  mutating func peek() -> Token {
    if let lookahead { return lookahead }
    let token = lexer.next()
    lookahead = token
    return token
  }

  mutating func advance() {
    _ = peek()
    lookahead = nil
    if quietTokens > 0 { quietTokens -= 1 }
  }

  /// Takes a keyword if it is next.
  mutating func accept(_ keyword: Keyword) -> Bool {
    guard peek() == .keyword(keyword) else { return false }
    advance()
    return true
  }

  mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard peek() == .character(UInt8(ascii: character)) else { return false }
    advance()
    return true
  }

  mutating func expect(_ keyword: Keyword) throws(ParseFailure) {
    guard accept(keyword) else { throw .syntax }
  }

  mutating func expectString() throws(ParseFailure) -> String {
    guard case .string(let text) = peek() else { throw .syntax }
    advance()
    return text
  }

  /// An optional last part is absent only if the line ends here.
  mutating func expectEndOfLine() throws(ParseFailure) {
    guard peek() == .newline else { throw .syntax }
  }

  // MARK: Errors

  mutating func fail(_ message: String) -> ParseFailure {
    lexer.report(message)
    return .reported
  }

  mutating func die(_ message: String) -> ParseFailure {
    lexer.report(Diagnostic(.program, message))
    return .fatal
  }

  // MARK: The file

  mutating func parse() throws(IPsecConfError) -> IPsecConf {
    while peek() != .end {
      do {
        try parseLine()
        try expectEndOfLine()
        advance()
      } catch .fatal {
        throw IPsecConfError(diagnostics: lexer.diagnostics, echo: echo, isFatal: true)
      } catch {
        if error == .syntax && quietTokens == 0 { lexer.report(syntaxError) }
        guard recover() else { break }
      }
    }
    guard lexer.errorCount == 0 else { throw IPsecConfError(diagnostics: lexer.diagnostics, echo: echo) }
    return IPsecConf(
      echo: echo, diagnostics: lexer.diagnostics, cautions: cautions, unusedMacros: lexer.macros.unused)
  }

  /// What cannot be seen in the file is named.
  private var syntaxError: String {
    guard lookahead == .character(UInt8(ascii: "\r")) else { return "syntax error" }
    return "syntax error: a carriage return (CR), as DOS ends lines; lines end in a line feed alone"
  }

  /// Skips to the next line; false at the end of the file.
  private mutating func recover() -> Bool {
    quietTokens = 3
    while true {
      switch peek() {
      case .end: return false
      case .newline:
        advance()
        lexer.countError()
        return true
      default: lookahead = nil
      }
    }
  }

  private mutating func parseLine() throws(ParseFailure) {
    switch peek() {
    case .newline: break
    case .keyword(.include): try parseInclude()
    case .keyword(.ike): try parseIKE()
    case .keyword(.flow): try parseFlow()
    case .keyword(.tcpmd5): try parseTCPMD5()
    case .keyword(.esp), .keyword(.ah), .keyword(.ipcomp), .keyword(.ipip), .keyword(.tunnel), .keyword(.transport),
      .keyword(.from), .keyword(.to):
      try parseSA()
    case .string: try parseMacro()
    default: throw .syntax
    }
  }

  private mutating func parseInclude() throws(ParseFailure) {
    advance()
    let file = try expectString()
    do {
      try lexer.push(file: file)
    } catch {
      lexer.report(Diagnostic(.program, error.message))
      throw fail("failed to include file \(file)")
    }
  }

  private mutating func parseMacro() throws(ParseFailure) {
    let name = try expectString()
    guard accept("=") else { throw .syntax }
    var words = [try expectString()]
    while case .string(let word) = peek() {
      advance()
      words.append(word)
    }
    try expectEndOfLine()
    let value = words.joined(separator: " ")
    echo.append(.macro(name: name, value: value))
    if name.utf8.dropFirst().contains(where: \.isASCIISpace) { throw fail("macro name cannot contain whitespace") }
    lexer.macros.set(name, value, persistent: false)
  }

  /// Takes a rule up as one more of the file.
  mutating func add(_ body: Rule.Body) throws(ParseFailure) {
    guard expansion.ruleCount < IPsecConf.ruleLimit else {
      _ = fail("rules expand to more than \(IPsecConf.ruleLimit)")
      throw .fatal
    }
    let rule = Rule(number: expansion.ruleCount, file: lexer.sources.name, line: lexer.tokenLine, body: body)
    expansion.ruleCount += 1
    echo.append(.rule(rule))
  }

  mutating func caution(_ message: String) {
    cautions.append(
      Diagnostic(.located(file: lexer.sources.name, line: lexer.tokenLine), message, isError: false))
  }
}
