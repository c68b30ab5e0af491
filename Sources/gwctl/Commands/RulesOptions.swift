import ArgumentParser
import ConfigurationFiles
import ControlAPI
import IKEControl

/// What the commands that read an ipsec.conf have in common.
struct RulesOptions: ParsableArguments {
  @Argument(help: "An ipsec.conf; - reads standard input.", completion: .file()) var file: String

  @Option(
    name: .customShort("D"),
    help: ArgumentHelp("Defines a macro, whatever the file says of it.", valueName: "macro=value"))
  var macros: [String] = []

  @Flag(name: .short, help: "Print each rule; twice: with its number.") var verbose: Int
  @Flag(name: .short, help: "Show keys where rules are printed.") var keys = false

  /// Reads the file. What is wrong with it goes to stderr, and what it says to stdout if asked for.
  func read(deletes: Bool = false) throws(Failure) -> RulesFile {
    let terminal = Terminal.standard
    var definitions: [Macro] = []
    for macro in macros {
      guard let definition = Macro(argument: macro) else {
        throw Failure(.configuration, ["-D \(macro): expected MACRO=VALUE"])
      }
      definitions.append(definition)
    }
    let rules: RulesFile
    do { rules = try RulesFile(path: file, macros: definitions) } catch { throw Self.failure(error) }
    for caution in rules.conf.diagnostics + rules.conf.cautions { terminal.error(caution.text(program: "gwctl")) }
    let options = PrintOptions(
      verbosity: min(verbose, 2), showsKeys: keys, deletes: deletes, hostname: IKEHost.name)
    let output = RulePrinter(options: options).output(rules.conf.echo)
    for diagnostic in output.diagnostics { terminal.error(diagnostic.text(program: "gwctl")) }
    terminal.write(output.text)
    return rules
  }

  static func failure(_ error: IPsecConfError) -> Failure {
    for diagnostic in error.diagnostics { Terminal.standard.error(diagnostic.text(program: "gwctl")) }
    return Failure(.configuration, ["errors in the file; nothing was changed"])
  }

  /// Says which rules failed, by their place in the file.
  static func failure(_ failures: [LoadReport.Failure], _ prepared: RulesFile.Prepared, closing: String) -> Failure {
    for failure in failures {
      let place = failure.rule.flatMap { prepared.sources.indices.contains($0) ? prepared.sources[$0] : nil }
      Terminal.standard.error(place.map { "\($0.file): \($0.line): \(failure.reason)" } ?? failure.reason)
    }
    return Failure(.failure, [closing])
  }

  /// What the key daemon made of the `ike` rules.
  static func report(_ connections: [IKEConnectionStatus], verbose: Bool) throws(Failure) {
    let failed = connections.filter { $0.state == .failed }
    let waiting = connections.filter { $0.state == .waiting }.count
    for status in failed {
      Terminal.standard.error("\(status.file): \(status.line): \(status.name): \(status.reason ?? "refused")")
    }
    if waiting > 0 {
      Terminal.standard.error(
        "gwctl: \(Quantity.count(waiting, "ike rule")) kept until the key daemon comes; see gwctl ike status")
    } else if verbose && failed.isEmpty && !connections.isEmpty {
      Terminal.standard.error("gwctl: \(Quantity.count(connections.count, "ike rule")) loaded")
    }
    guard failed.isEmpty else { throw Failure(.failure, ["the key daemon has not taken all ike rules"]) }
  }
}
