import ArgumentParser
import ControlAPI

struct Reload: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes gwd read gateway.yaml and ipsec.conf again, all or nothing, as SIGHUP does.")

  @OptionGroup var global: GlobalOptions

  func run() throws {
    let report = try global.ask { client throws(ControlClientError) in try client.reload() }
    guard report.succeeded else {
      throw Failure(.configuration, report.messages + ["reload refused; the gateway goes on as it was"])
    }
    for message in report.messages { Terminal.standard.write(message + "\n") }
  }
}
