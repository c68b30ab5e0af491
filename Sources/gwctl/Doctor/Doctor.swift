import ArgumentParser
import ConfigurationFiles
import ControlAPI
import Foundation
import Machine

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what makes this machine slow or keeps the gateway from starting.",
    discussion: """
      Looks at network cards, memory, cores, the unit, key daemons and the kernel's own IPsec. Each line is good, a \
      warning or bad, and names the command that mends it. Changes nothing. Run it as root: others do not see everything.

      Exit status: 0 nothing is bad; 1 something is.
      """)

  @OptionGroup var global: GlobalOptions

  @Option(name: [.customShort("f"), .long], help: "The gateway's configuration.")
  var config = "/etc/gw/gateway.yaml"

  @Flag(help: "As JSON: a list of level, subject, text and remedy.")
  var json = false

  func run() throws {
    var examination = Examination(files: MachineFiles(), commands: .system)
    examination.configurationPath = config
    if FileManager.default.fileExists(atPath: config) {
      do { examination.configuration = try GatewayConfiguration(contentsOf: config) } catch {
        examination.configurationProblem = "\(error)"
      }
    }
    examination.ports = try? global.client.ports()
    let findings = examination.findings()
    Terminal.standard.write(json ? try Self.json(findings) : Self.text(findings))
    if findings.contains(where: { $0.level == .bad }) { throw ExitCode(1) }
  }

  static func json(_ findings: [Finding]) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(findings), as: UTF8.self) + "\n"
  }

  static func text(_ findings: [Finding]) -> String {
    let width = findings.map(\.subject.count).max() ?? 0
    var lines = findings.map { finding in
      let label = finding.level.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
      let subject = finding.subject.padding(toLength: width, withPad: " ", startingAt: 0)
      let remedy = finding.remedy.map { "\n" + String(repeating: " ", count: width + 10) + "→ \($0)" } ?? ""
      return "\(label) \(subject) \(finding.text)\(remedy)"
    }
    let counts = [Finding.Level.good, .warning, .bad].map { level in findings.filter { $0.level == level }.count }
    lines.append("\(counts[0]) good, \(counts[1]) warnings, \(counts[2]) bad")
    return lines.joined(separator: "\n") + "\n"
  }
}
