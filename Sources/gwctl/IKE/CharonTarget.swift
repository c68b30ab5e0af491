import IKEControl

/// What an operator's name means to charon.
enum CharonTarget {
  case ike(String)
  case child(String, ike: String)

  /// A peer's or a rule's name among the connections that charon has; then among its SAs, which may outlive them.
  static func find(_ name: String, _ charon: VICIConnection) throws -> CharonTarget {
    let report = try IKEReport(charon: charon)
    if report.connections.contains(where: { $0.name == name }) { return .ike(name) }
    for connection in report.connections where connection.children.contains(where: { $0.name == name }) {
      return .child(name, ike: connection.name)
    }
    for sa in report.sas {
      if sa.name == name { return .ike(name) }
      if sa.children.contains(where: { $0.name == name }) { return .child(name, ike: sa.name) }
    }
    let known = report.connections.flatMap { [$0.name] + $0.children.map { "  " + $0.name } }
    throw Failure(
      .failure,
      ["charon has no connection \(name)"]
        + (known.isEmpty ? ["it has none at all; gwctl ike status says what gwd waits for"] : ["it has:"] + known))
  }

  var message: VICISection {
    switch self {
    case .ike(let name): VICISection(["ike": name])
    case .child(let name, let ike): VICISection(["child": name, "ike": ike])
    }
  }
}
