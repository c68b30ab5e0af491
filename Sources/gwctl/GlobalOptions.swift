import ArgumentParser
import ControlAPI
import Foundation

/// What every command takes.
struct GlobalOptions: ParsableArguments {
  @Option(
    name: .customLong("run-dir"),
    help: ArgumentHelp(
      "The run directory of the gwd to speak to (default: $GW_RUN_DIR, else /run/gw).", valueName: "dir"),
    completion: .directory)
  var runDirectory: String?

  static var defaultRunDirectory: String { ProcessInfo.processInfo.environment["GW_RUN_DIR"] ?? "/run/gw" }
  static var defaultSocketPath: String { defaultRunDirectory + "/gwctl.sock" }

  var socketPath: String { (runDirectory ?? Self.defaultRunDirectory) + "/gwctl.sock" }
  var client: ControlClient { ControlClient(socketPath: socketPath, timeoutSeconds: 120) }

  /// A call of the API, its failure made fit for the operator.
  func ask<Value>(_ request: (ControlClient) throws(ControlClientError) -> Value) throws(Failure) -> Value {
    do { return try request(client) } catch { throw Failure(error) }
  }

  /// Prints the JSON of a path as the gateway sends it.
  func printJSON(_ path: String) throws(Failure) {
    Terminal.standard.write(
      String(decoding: try ask { client throws(ControlClientError) in try client.raw(path) }, as: UTF8.self))
  }
}
