import Engines

/// What one charon has been given, and the way from there to what it should have. Whatever charon refuses is named and
/// the rest goes on; an error that is thrown means that charon has to be connected to anew, with a new loader.
struct CharonLoader {
  private var connections: [String: CharonConfiguration.Connection] = [:]
  private var secrets: [String: VICISection] = [:]
  private var certificates: [Credentials.Item] = []
  private var keys: [Credentials.Item: String] = [:]

  /// What charon said to a connection; and to certificates and keys.
  struct Outcome {
    var refused: [String: String] = [:]
    var problems: [String] = []
    var loaded: [String] = []
    var removed: [String] = []
  }

  mutating func apply(
    _ wanted: CharonConfiguration, _ credentials: Credentials, to charon: VICIConnection
  ) throws(VICIError) -> Outcome {
    var outcome = Outcome()
    try load(credentials, charon, &outcome)
    for secret in wanted.secrets where secrets[secret.id] != secret.message {
      if let reason = try Self.refusal({ () throws(VICIError) in try charon.request("load-shared", secret.message) }) {
        outcome.problems.append("\(secret.id): \(reason)")
      } else {
        secrets[secret.id] = secret.message
      }
    }
    for connection in wanted.connections where connections[connection.name] != connection {
      var message = VICISection()
      message.set(connection.name, section: connection.section)
      if let reason = try Self.refusal({ () throws(VICIError) in try charon.request("load-conn", message) }) {
        outcome.refused[connection.name] = reason
        continue
      }
      // Rules that are gone take their SAs along.
      for child in connections[connection.name]?.children ?? [] where !connection.children.contains(child) {
        try Self.terminate(charon, ["child": child, "ike": connection.name])
        outcome.removed.append(child)
      }
      connections[connection.name] = connection
      outcome.loaded.append(connection.name)
    }
    try removeOthers(wanted, charon, &outcome)
    return outcome
  }

  private mutating func removeOthers(
    _ wanted: CharonConfiguration, _ charon: VICIConnection, _ outcome: inout Outcome
  ) throws(VICIError) {
    for (name, connection) in connections where !wanted.connections.contains(where: { $0.name == name }) {
      _ = try Self.refusal { () throws(VICIError) in try charon.request("unload-conn", VICISection(["name": name])) }
      try Self.terminate(charon, ["ike": name])
      connections[name] = nil
      outcome.removed += connection.children
    }
    for id in secrets.keys where !wanted.secrets.contains(where: { $0.id == id }) {
      _ = try Self.refusal { () throws(VICIError) in try charon.request("unload-shared", VICISection(["id": id])) }
      secrets[id] = nil
    }
  }

  /// Without waiting for the peer's answer.
  private static func terminate(
    _ charon: VICIConnection, _ what: KeyValuePairs<String, String>
  ) throws(VICIError) {
    var message = VICISection(what)
    message.set("timeout", "-1")
    _ = try refusal { () throws(VICIError) in try charon.request("terminate", message) }
  }

  // MARK: Certificates and keys

  private mutating func load(
    _ credentials: Credentials, _ charon: VICIConnection, _ outcome: inout Outcome
  ) throws(VICIError) {
    let wanted = credentials.authorities + credentials.certificates
    if certificates.contains(where: { !wanted.contains($0) }) {
      // charon takes a certificate away only with everything else, and trust that was withdrawn must go.
      try charon.request("clear-creds")
      certificates = []
      keys = [:]
      secrets = [:]
    }
    for (item, isAuthority) in credentials.authorities.map({ ($0, true) })
      + credentials.certificates.map({ ($0, false) })
    where !certificates.contains(item) {
      var message = VICISection(["type": "X509", "flag": isAuthority ? "CA" : "NONE"])
      message.set("data", value: .secret(item.content))
      if let reason = try Self.refusal({ () throws(VICIError) in try charon.request("load-cert", message) }) {
        outcome.problems.append("\(item.path): \(reason)")
      } else {
        certificates.append(item)
      }
    }
    for (item, id) in keys where !credentials.privateKeys.contains(item) {
      _ = try Self.refusal { () throws(VICIError) in try charon.request("unload-key", VICISection(["id": id])) }
      keys[item] = nil
    }
    for item in credentials.privateKeys where keys[item] == nil {
      var message = VICISection(["type": "any"])
      message.set("data", value: .secret(item.content))
      var id = ""
      let reason = try Self.refusal { () throws(VICIError) in
        let answer = try charon.request("load-key", message)
        id = answer.text("id") ?? ""
        return answer
      }
      if let reason { outcome.problems.append("\(item.path): \(reason)") } else { keys[item] = id }
    }
  }

  /// charon's refusal of a request, nil if it did what was asked.
  private static func refusal(_ body: () throws(VICIError) -> VICISection) throws(VICIError) -> String? {
    do {
      _ = try body()
      return nil
    } catch {
      if case .refused(_, let reason) = error { return reason }
      throw error
    }
  }
}

extension Credentials.Item: Hashable {
  public func hash(into hasher: inout Hasher) { hasher.combine(path) }
}
