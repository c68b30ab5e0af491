/// Bytes to tokens: macros are put in, lines continued, comments dropped, included files read in their place.
/// Follows OpenBSD's scanner, its error texts and the lines it blames.
struct Lexer {
  static let stringLimit = 8095

  var sources = SourceStack()
  var macros = MacroTable()
  private(set) var diagnostics: [Diagnostic] = []
  private(set) var errorCount = 0
  /// Where the last token began.
  private(set) var tokenLine = 1
  /// The macro being put in, and how far.
  private var macro: [UInt8]?
  private var macroPosition = 0
  /// Bytes read too far, last first.
  private var pushback: [UInt8] = []

  // MARK: Errors

  /// At the line of the last token.
  mutating func report(_ message: String) {
    errorCount += 1
    diagnostics.append(Diagnostic(.located(file: sources.name, line: tokenLine), message))
  }

  mutating func warn(_ message: String) {
    diagnostics.append(Diagnostic(.located(file: sources.name, line: tokenLine), message, isError: false))
  }

  mutating func report(_ diagnostic: Diagnostic) { diagnostics.append(diagnostic) }

  /// An error that has been told of, or that OpenBSD does not tell of.
  mutating func countError() { errorCount += 1 }

  // MARK: Bytes

  /// Nil at the end of the outermost file.
  private mutating func get() -> UInt8? {
    if let byte = getBuffered() { return byte }
    var byte = sources.next()
    while byte == UInt8(ascii: "\\") {
      byte = sources.next()
      guard byte == UInt8(ascii: "\n") else { break }
      tokenLine = sources.line
      sources.line += 1
      byte = sources.next()
    }
    while byte == nil {
      guard sources.pop() else { return nil }
      byte = sources.next()
    }
    return byte
  }

  private mutating func getBuffered() -> UInt8? {
    if let text = macro {
      if macroPosition < text.count {
        macroPosition += 1
        return text[macroPosition - 1]
      }
      macro = nil
    }
    return pushback.popLast()
  }

  /// Inside quotes: no continuation, and the end of the file is an error.
  private mutating func get(quote: UInt8) -> UInt8? {
    if let byte = getBuffered() ?? sources.next() { return byte }
    report("reached end of file while parsing quoted string")
    return sources.pop() ? quote : nil
  }

  private mutating func unget(_ byte: UInt8?) {
    guard let byte else { return }
    if macro != nil && macroPosition > 0 {
      macroPosition -= 1
    } else {
      pushback.append(byte)
    }
  }

  /// After `include`: the new file begins with the end of that line.
  mutating func push(file: String) throws(SourceStack.Refusal) {
    try sources.push(file: file, secret: false)
    unget(UInt8(ascii: "\n"))
  }

  /// Gives up on the line.
  private mutating func skipLine() -> Token {
    macro = nil
    while let byte = pushback.popLast() ?? get() {
      if byte == UInt8(ascii: "\n") {
        sources.line += 1
        break
      }
    }
    return .invalid
  }

  // MARK: Tokens

  mutating func next() -> Token {
    while true {
      var byte = get()
      while byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") { byte = get() }
      tokenLine = sources.line
      if byte == UInt8(ascii: "#") {
        repeat { byte = get() } while byte != nil && byte != UInt8(ascii: "\n")
      }
      guard byte == UInt8(ascii: "$"), macro == nil else { return token(from: byte) }
      if let failure = expandMacro() { return failure }
    }
  }

  /// `$name` becomes the input; a token where that fails.
  private mutating func expandMacro() -> Token? {
    var name: [UInt8] = []
    while true {
      guard let byte = get() else { return .end }
      guard name.count < Self.stringLimit else {
        report("string too long")
        return skipLine()
      }
      guard byte.isASCIIAlphanumeric || byte == UInt8(ascii: "_") else {
        unget(byte)
        break
      }
      name.append(byte)
    }
    let text = String(decoding: name, as: UTF8.self)
    guard let value = macros.use(text) else {
      report("macro '\(text)' not defined")
      return skipLine()
    }
    macro = value
    macroPosition = 0
    return nil
  }

  private mutating func token(from first: UInt8?) -> Token {
    guard let first else { return .end }
    switch first {
    case UInt8(ascii: "'"), UInt8(ascii: "\""): return quotedString(first)
    case UInt8(ascii: "\n"):
      tokenLine = sources.line
      sources.line += 1
      return .newline
    case UInt8(ascii: "-"): return number(first) ?? .character(first)
    case _ where first.isASCIIDigit: return number(first) ?? word(first)
    case _ where first.isASCIILetter, UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "*"):
      return word(first)
    default: return .character(first)
    }
  }

  private mutating func quotedString(_ quote: UInt8) -> Token {
    var text: [UInt8] = []
    while true {
      guard var byte = get(quote: quote) else { return .end }
      if byte == UInt8(ascii: "\n") {
        sources.line += 1
        continue
      }
      if byte == quote { return .string(String(decoding: text, as: UTF8.self)) }
      if byte == 0 {
        report("syntax error")
        return skipLine()
      }
      if byte == UInt8(ascii: "\\") {
        guard let next = get(quote: quote) else { return .end }
        if next == quote || next == UInt8(ascii: " ") || next == UInt8(ascii: "\t") {
          byte = next
        } else if next == UInt8(ascii: "\n") {
          sources.line += 1
          continue
        } else {
          unget(next)
        }
      }
      guard text.count < Self.stringLimit else {
        report("string too long")
        return skipLine()
      }
      text.append(byte)
    }
  }

  /// Digits, perhaps with a sign, that nothing but the end of a word follows; nil puts all but `first` back.
  private mutating func number(_ first: UInt8) -> Token? {
    var digits = [first]
    var byte = get()
    while let next = byte, next.isASCIIDigit {
      guard digits.count < Self.stringLimit else {
        report("string too long")
        return skipLine()
      }
      digits.append(next)
      byte = get()
    }
    unget(byte)
    let isBareSign = digits.count == 1 && first == UInt8(ascii: "-")
    guard !isBareSign, byte.map({ Self.numberEnds[Int($0)] }) ?? true else {
      for digit in digits.dropFirst().reversed() { unget(digit) }
      return nil
    }
    let text = String(decoding: digits, as: UTF8.self)
    guard let value = Int64(text) else {
      report("\"\(text)\" invalid number: too \(first == UInt8(ascii: "-") ? "small" : "large")")
      return skipLine()
    }
    return .number(value)
  }

  /// By byte: whether it may follow a number, and whether it goes on with a word.
  private static let numberEnds = (0...255).map { UInt8($0).isASCIISpace || "),/}=".utf8.contains(UInt8($0)) }
  private static let wordBytes = (0...255).map { byte in
    UInt8(byte).isASCIIAlphanumeric
      || (UInt8(byte).isASCIIPunctuation && !"(){}<>!=/#,".utf8.contains(UInt8(byte)))
  }

  private mutating func word(_ first: UInt8) -> Token {
    var bytes = [first]
    var byte = get()
    while let next = byte, Self.wordBytes[Int(next)] {
      guard bytes.count < Self.stringLimit else {
        report("string too long")
        return skipLine()
      }
      bytes.append(next)
      byte = get()
    }
    unget(byte)
    let text = String(decoding: bytes, as: UTF8.self)
    return Keyword(rawValue: text).map(Token.keyword) ?? .string(text)
  }
}
