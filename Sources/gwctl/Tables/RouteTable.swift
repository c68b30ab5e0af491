import ControlAPI

enum RouteTable {
  static func text(_ routes: [RouteStatus], verbosity: Int) -> String {
    guard !routes.isEmpty else { return "No routes\n" }
    var table = Table([
      "DESTINATION": .left, "GATEWAY": .left, "PORT": .left, "ORIGIN": .left, "METRIC": .right, "MTU (B)": .right,
      "NEXT HOP": .left,
    ])
    for route in routes {
      let isDefault = route.destination.length == 0
      table.add(
        isDefault ? "default" : "\(route.destination)", route.gateway.map { "\($0)" } ?? "on link", route.port,
        route.origin, "\(route.metric)", route.mtuBytes.map { "\($0)" } ?? "-",
        route.resolved.map { $0 ? "resolved" : "unresolved" } ?? "-")
    }
    return table.text
  }
}
