import ArgumentParser
import ControlAPI

extension TunnelStatus.State: ExpressibleByArgument {}
extension TunnelQuery.Order: ExpressibleByArgument {}

/// What of the tunnels is asked for, by `show tunnels` and `top`.
struct TunnelOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Only tunnels in this state; may be repeated.", valueName: "state")) var state:
    [TunnelStatus.State] = []
  @Option(help: ArgumentHelp("Only tunnels whose name or peer contains this.", valueName: "text")) var filter: String?
  @Option(help: ArgumentHelp("The order: name, rate, drops, age or state.", valueName: "order")) var sort:
    TunnelQuery.Order?
  @Option(name: .customShort("n"), help: ArgumentHelp("Not more than so many.", valueName: "count")) var limit: Int?

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("-n is a number above 0") }
  }

  func query(order: TunnelQuery.Order) -> TunnelQuery {
    var query = TunnelQuery()
    query.states = state.isEmpty ? nil : Set(state)
    query.filter = filter
    query.order = sort ?? order
    query.limit = limit
    return query
  }
}

struct ShowTunnels: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tunnels",
    abstract: "Tunnels: their state and since when, their peer, what passes, why they are down.",
    discussion: """
      A tunnel is an ike rule, or a flow with its SAs. It is up (packets leave through an SA that a key daemon made), static \
      (through one of ipsec.conf), connecting, or down. With a name, or -v: everything that is known.
      """)

  @OptionGroup var global: GlobalOptions
  @OptionGroup var options: ShowOptions
  @OptionGroup var choice: TunnelOptions
  @Argument(help: "The tunnel of this name alone, with all that is known of it.") var name: String?

  func run() throws {
    var query = choice.query(order: .name)
    query.name = name
    let isWhole = name != nil || options.verbose > 0
    query.withAssociations = isWhole || options.json
    query.withHistory = options.json
    if options.json { return try global.printJSON(query.path) }
    let tunnels = try global.ask { client throws(ControlClientError) in try client.tunnels(query) }
    if let name, tunnels.isEmpty { throw Failure(.failure, ["no tunnel is called \(name)"]) }
    Terminal.standard.write(isWhole ? TunnelText.whole(tunnels) : TunnelText.table(tunnels))
  }
}
