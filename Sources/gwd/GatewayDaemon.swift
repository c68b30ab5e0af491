import ArgumentParser
import CLinux
import ControlAPI
import ControlPlane
import Foundation
import Logging

/// The command line of `gwd`.
struct GatewayDaemon: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gwd",
    abstract: "An IPsec gateway on DPDK.",
    discussion: """
      TERM and INT stop it, HUP has it read its files again, USR1 has it write a report to its run directory.
      Exit status: 0 stopped, 69 a device, hugepages or a socket is not to be had, 78 wrong configuration.
      """,
    version: ProductVersion.current)

  @Option(name: [.customShort("f"), .long], help: "The gateway's configuration.")
  var config = "/etc/gw/gateway.yaml"

  @Option(help: "For sockets and locks, instead of what the configuration says: for a second gateway on one machine.")
  var runDir: String?

  @Flag(
    name: [.customShort("n"), .long],
    help: "Only check the configuration, the rules it names, and what they need of this machine.")
  var check = false

  @Flag(help: "With --check: the files alone, which may be meant for another machine.")
  var syntax = false

  @Option(help: "trace, debug, info, notice, warning, error or critical.")
  var logLevel: String?

  func validate() throws {
    if syntax, !check { throw ValidationError("--syntax needs --check") }
    if let logLevel, Logger.Level(rawValue: logLevel) == nil {
      throw ValidationError("log level \(logLevel) is none of trace, debug, info, notice, warning, error, critical")
    }
  }

  func run() throws {
    let isLocked = clinux_keep_memory_private() == 0
    let level = logLevel.flatMap { Logger.Level(rawValue: $0) }
    var daemon = Daemon(configurationPath: config, runDirectory: runDir, logLevel: level)
    daemon.isMemoryLocked = isLocked
    Daemon.leave(check ? daemon.check(syntaxOnly: syntax) : daemon.run())
  }
}
