import ArgumentParser
import ControlAPI
import IKEControl

struct IKEStatus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "The ike rules of ipsec.conf: which tunnels are up, and why the others are not.",
    discussion: """
      A rule waits for the key daemon, has failed (the daemon refuses it), is up since a time, or is down: what the daemon \
      said of it last, and when gwd asks for it again. It is loaded where the daemon has it and does not answer.
      """)

  @OptionGroup var global: GlobalOptions
  @Flag(name: .long, help: "Print JSON as the API has it.") var json = false

  func run() throws {
    if json { return try global.printJSON("/v1/ike") }
    let status = try global.ask { client throws(ControlClientError) in try client.keyDaemon() }
    let terminal = Terminal.standard
    terminal.write("\(status.daemon.rawValue) at \(status.socketPath)\n")
    if let capture = status.capture { terminal.write("capture to \(capture)\n") }
    if let waitingFor = status.waitingFor { terminal.write("waiting: \(waitingFor)\n") }
    for problem in status.problems { terminal.write("warning: \(problem)\n") }
    guard !status.connections.isEmpty else { return terminal.write("No ike rules\n") }
    terminal.write(
      Table.text(
        status.connections,
        [
          .left("rule") { $0.name }, .left("peer") { $0.peer }, .left("mode") { $0.mode },
          .left("state") { $0.state.rawValue },
          .left("") { $0.remark() },
        ]))
  }
}
