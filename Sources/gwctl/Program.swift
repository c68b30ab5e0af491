import ArgumentParser
import CLinux
import Glibc

/// `gwctl`, or OpenBSD's `ipsecctl` or `route` where it is called by that name.
enum Program {
  static func main() -> Never {
    // It reads rules with keys. Whoever calls it may not be able to have memory locked: then it is not.
    _ = clinux_keep_memory_private()
    let arguments = CommandLine.arguments
    let name = arguments.first?.split(separator: "/").last.map(String.init) ?? "gwctl"
    if name == "ipsecctl" {
      let status = Ipsecctl(name: name, socketPath: GlobalOptions.defaultSocketPath, terminal: .standard)
        .run(Array(arguments.dropFirst()))
      exit(status)
    }
    if name == "route" {
      let path = GlobalOptions.defaultSocketPath
      exit(RouteProgram.run(Array(arguments.dropFirst()), socketPath: path, terminal: .standard))
    }
    do {
      var command = try Gwctl.parseAsRoot()
      try command.run()
      exit(0)
    } catch let failure as Failure {
      for line in failure.lines { Terminal.standard.error("gwctl: \(line)") }
      exit(failure.status.rawValue)
    } catch {
      Gwctl.exit(withError: error)
    }
  }
}
