import ConfigurationFiles
import Foundation
import IKEControl

extension Daemon {
  /// `--check`: reads both files and looks at the machine, says what is wrong, and touches nothing. `syntaxOnly`: the files
  /// alone, which may be meant for another machine.
  public func check(syntaxOnly: Bool = false) -> ExitStatus {
    let configuration: GatewayConfiguration
    do {
      configuration = try GatewayConfiguration(contentsOf: configurationPath)
      try Self.checkRules(configuration)
    } catch let error as IPsecConfError {
      for diagnostic in error.diagnostics { Self.complain("\(diagnostic)") }
      return .configuration
    } catch {
      Self.complain("\(error)")
      return .configuration
    }
    if syntaxOnly { return .stopped }
    let complaints = MachineCheck(configuration, runDirectory: runDirectory).complaints()
    for complaint in complaints { Self.complain(complaint) }
    return complaints.isEmpty ? .stopped : .unavailable
  }

  private static func checkRules(_ configuration: GatewayConfiguration) throws {
    guard let file = configuration.ipsec else { return }
    let rules = try IPsecConf.parse(file: file)
    for diagnostic in rules.diagnostics + rules.cautions { complain("\(diagnostic)") }
    _ = try rules.transaction(allowWeak: configuration.allowWeak)
    let agent = IKEAgent(.init(daemon: configuration.ike, runDirectory: configuration.runDirectory)) { _, _ in }
    for status in agent.check(try rules.connections()) {
      complain("\(status.file): \(status.line): \(status.name): \(status.reason ?? "")")
    }
  }
}
