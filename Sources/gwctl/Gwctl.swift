import ArgumentParser
import ControlAPI

struct Gwctl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gwctl",
    abstract: "Shows and changes what an IPsec gateway does.",
    discussion: """
      Speaks to gwd over the socket gwctl.sock in its run directory. Called as ipsecctl it takes the options of \
      OpenBSD's ipsecctl(8).

      Exit status: 0 done; 1 the gateway refused, or something failed; 64 wrong usage; 69 no gwd answers; \
      77 not permitted; 78 an error in a configuration file.
      """,
    version: ProductVersion.current,
    subcommands: [
      Show.self, Status.self, Top.self, Log.self, Load.self, Delete.self, Check.self, Flush.self, Reload.self,
      Monitor.self,
      IKECommand.self, Doctor.self, Setup.self,
    ])

  @OptionGroup var global: GlobalOptions
}
