import ConfigurationFiles
import ControlAPI

/// `route -n show`, where the program is called by that name: OpenBSD's, as far as IPsec is in it.
enum RouteProgram {
  static func run(_ arguments: [String], socketPath: String, terminal: Terminal) -> Int32 {
    let words = arguments.filter { $0 != "-n" && $0 != "-encap" }
    guard words == ["show"] else {
      terminal.error("usage: route [-n] show [-encap]")
      return 1
    }
    do {
      let policies = try ControlClient(socketPath: socketPath).policies()
      terminal.write("Routing tables\n" + EncapTablePrinter.text(policies))
      return 0
    } catch {
      terminal.error("route: \(error)")
      return 1
    }
  }
}
