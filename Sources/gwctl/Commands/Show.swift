import ArgumentParser

struct Show: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows SAs, flows, counters and tables.",
    subcommands: [
      ShowSA.self, ShowFlow.self, ShowPorts.self, ShowWorkers.self, ShowDrops.self, ShowRoutes.self,
      ShowNeighbors.self, ShowEngines.self, ShowStatus.self,
    ])
}

/// What the `show` commands have in common.
struct ShowOptions: ParsableArguments {
  @Flag(name: .long, help: "Print JSON as the API has it.")
  var json = false

  @Flag(name: .short, help: "Tell more; twice: still more.")
  var verbose: Int
}
