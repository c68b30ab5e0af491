import ArgumentParser

struct IKECommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ike",
    abstract: "The key daemon: its connections, SAs, log and credentials.",
    discussion: """
      Speaks to charon over VICI, or to iked over ikectl: to the one that gwd's gateway.yaml names (ike: {daemon, vici, \
      control}), or that --daemon and --socket do. gwd need not run for that. What isakmpd takes from its FIFO is here \
      under a name; README.md has the table.
      """,
    subcommands: [
      IKEStatus.self, IKEReportCommand.self, IKESAs.self, IKEConnect.self, IKETeardown.self, IKEDelete.self,
      IKERekey.self, IKEReload.self, IKEDebug.self, IKEMonitor.self, IKECaptureCommand.self, IKEPrintConfig.self,
      IKEQuit.self,
    ])
}
