/// The command line of OpenBSD's ipsecctl(8), read as getopt(3) reads it there.
struct IpsecctlOptions: Equatable {
  enum Listing: String, CaseIterable { case flow, sa, all }

  var collapses = false
  var deletes = false
  var flushes = false
  var showsKeys = false
  var monitors = false
  var noAction = false
  /// 0, 1 or 2.
  var verbosity = 0
  var rulesFile: String?
  /// isakmpd's FIFO. Nil: OpenBSD's, where there is one; else gwd sees to `ike` rules.
  var fifo: String?
  var listing: Listing?
  /// Of `-D`, as given.
  var macros: [String] = []

  /// What is said before the usage, without the program's name; nil: only the usage.
  struct UsageError: Error, Equatable {
    var message: String?
  }

  init(_ arguments: [String]) throws(UsageError) {
    guard !arguments.isEmpty else { throw UsageError() }
    var rest = arguments[...]
    while let word = rest.first, word.hasPrefix("-"), word != "-" {
      rest = rest.dropFirst()
      if word == "--" { break }
      try readLetters(word.dropFirst(), &rest)
    }
    if let extra = rest.first { throw UsageError(message: "unknown command line argument: \(extra) ...") }
  }

  /// The letters of one word; the last of them may take what follows, in the word or after it.
  private mutating func readLetters(_ word: Substring, _ rest: inout ArraySlice<String>) throws(UsageError) {
    var letters = word
    while let letter = letters.popFirst() {
      guard "Dfis".contains(letter) else {
        try setFlag(letter)
        continue
      }
      guard let value = letters.isEmpty ? rest.popFirst() : String(letters) else {
        throw UsageError(message: "option requires an argument -- \(letter)")
      }
      return try setOption(letter, value)
    }
  }

  private mutating func setFlag(_ letter: Character) throws(UsageError) {
    switch letter {
    case "c": collapses = true
    case "d": deletes = true
    case "F": flushes = true
    case "k": showsKeys = true
    case "m": monitors = true
    case "n": noAction = true
    case "v": verbosity = min(verbosity + 1, 2)
    default: throw UsageError(message: "unknown option -- \(letter)")
    }
  }

  private mutating func setOption(_ letter: Character, _ value: String) throws(UsageError) {
    switch letter {
    case "D": macros.append(value)
    case "f": rulesFile = value
    case "i": fifo = value
    default:
      // Any beginning of a name will do.
      guard !value.isEmpty, let match = Listing.allCases.first(where: { $0.rawValue.hasPrefix(value) }) else {
        throw UsageError(message: "Unknown show modifier '\(value)'")
      }
      listing = match
    }
  }
}
