import Wire
import Yams

extension GatewayConfiguration {
  /// The largest `gateway.yaml`, in bytes.
  public static let fileSizeLimit = 1 << 20

  /// Reads and checks a `gateway.yaml`.
  public init(contentsOf file: String) throws(ConfigurationError) {
    let bytes: [UInt8]
    do {
      bytes = try TextFile.read(file, limit: Self.fileSizeLimit).bytes
    } catch {
      throw ConfigurationError(file: file, path: "", message: "cannot read: \(error.message)")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationError(file: file, path: "", message: "not UTF-8 text")
    }
    try self.init(yaml: text, file: file)
  }

  /// Checks the text of a `gateway.yaml`; `file` is what errors call it and what `ipsec:` is relative to.
  public init(yaml text: String, file: String = "gateway.yaml") throws(ConfigurationError) {
    guard text.utf8.count <= Self.fileSizeLimit else {
      throw ConfigurationError(file: file, path: "", message: "larger than \(Self.fileSizeLimit) bytes")
    }
    let root: Node?
    do {
      root = try compose(yaml: text)
    } catch {
      throw ConfigurationError(file: file, yamlError: error)
    }
    guard let root else {
      throw ConfigurationError(file: file, path: "", message: "empty: expected at least 'ports'")
    }
    self.init()
    try read(YAMLCursor(file: file, path: "", node: root))
  }

  private static let keys = [
    "eal", "hugepages", "memory", "workers", "ports", "routes", "neighbors", "ipsec", "idle", "crypto", "on-ike-exit",
    "run-dir", "state-dir", "log-level", "burst", "limits", "allow-weak", "fragments", "portless-fragments", "metrics",
    "manual-replay-window", "path-mtu-expiry", "ike", "dummy-packets", "numa", "esp-padding", "source-check",
    "low-spis",
  ]

  private mutating func read(_ root: YAMLCursor) throws(ConfigurationError) {
    let values = try root.mapping(Self.keys)
    try readEnvironment(values, folder: root.file)
    try readBehaviour(values)
    try readPorts(root.require("ports", in: values, "a list of at least one port"))
    if let cursor = values["routes"] { try readRoutes(cursor) }
    if let cursor = values["neighbors"] { try readNeighbors(cursor) }
  }

  private mutating func readEnvironment(
    _ values: [String: YAMLCursor], folder file: String
  ) throws(ConfigurationError) {
    if let cursor = values["eal"] {
      for item in try cursor.list("EAL arguments", limit: 256) { eal.append(try item.string("an EAL argument")) }
    }
    if let cursor = values["hugepages"] { hugepages = try cursor.bool() }
    if let cursor = values["memory"] { memory = try cursor.int(64...1_048_576, unit: "MiB") }
    if memory == nil && !hugepages { memory = 512 }
    if let cursor = values["numa"] { numa = try cursor.choice(TableMemory.self) }
    if let cursor = values["workers"] { workers = try Self.workers(cursor) }
    if let cursor = values["ipsec"] { ipsec = Self.resolve(try cursor.string("a path"), beside: file) }
    if let cursor = values["run-dir"] { runDirectory = try Self.absolutePath(cursor) }
    if let cursor = values["state-dir"] { stateDirectory = try Self.absolutePath(cursor) }
  }

  private mutating func readBehaviour(_ values: [String: YAMLCursor]) throws(ConfigurationError) {
    if let cursor = values["idle"] { idle = try cursor.choice(Idle.self) }
    if let cursor = values["crypto"] { crypto = try cursor.choice(Crypto.self) }
    if let cursor = values["on-ike-exit"] { onIKEExit = try Self.ikeExit(cursor) }
    if let cursor = values["ike"] { ike = try KeyDaemon(cursor) }
    if let cursor = values["log-level"] { logLevel = try cursor.choice(LogLevel.self) }
    if let cursor = values["burst"] { burst = try cursor.int(32...256, unit: "packets") }
    if let cursor = values["allow-weak"] { allowWeak = try cursor.bool() }
    if let cursor = values["low-spis"] { lowSPIs = try cursor.bool() }
    if let cursor = values["fragments"] { fragments = try cursor.choice(Fragmentation.self) }
    if let cursor = values["portless-fragments"] { portlessFragments = try cursor.choice(PortlessFragments.self) }
    if let cursor = values["esp-padding"] { espPadding = try cursor.choice(ESPPadding.self) }
    if let cursor = values["source-check"] { sourceCheck = try cursor.choice(SourceCheck.self) }
    if let cursor = values["path-mtu-expiry"] { pathMTUExpiry = try cursor.int(1...86_400, unit: "seconds") }
    if let cursor = values["dummy-packets"] { dummyPackets = try cursor.int(0...1000, unit: "packets a second") }
    if let cursor = values["manual-replay-window"] {
      manualReplayWindow = try cursor.int(0...65536, unit: "packets")
    }
    if let cursor = values["limits"] { limits = try Limits(cursor) }
    if let cursor = values["metrics"] {
      let fields = try cursor.mapping(["listen", "tunnels"])
      if let field = fields["listen"] { metrics = try Metrics(field) }
      if let field = fields["tunnels"] { metricsTunnels = try field.int(0...1_000_000) }
    }
  }

  private static func workers(_ cursor: YAMLCursor) throws(ConfigurationError) -> [Int] {
    var cores: [Int] = []
    for item in try cursor.list("cores", limit: 1024) {
      let core = try item.int(0...1023, unit: "a core's number")
      guard !cores.contains(core) else { throw item.fail("core \(core) is named twice") }
      cores.append(core)
    }
    guard !cores.isEmpty else {
      throw cursor.fail("expected at least one core; leave the key out for all but the first")
    }
    return cores
  }

  private static func ikeExit(_ cursor: YAMLCursor) throws(ConfigurationError) -> IKEExit {
    let text = try cursor.string("keep, flush or 'hold SECONDS'")
    let words = text.split(separator: " ")
    switch words.first {
    case "keep" where words.count == 1: return .keep
    case "flush" where words.count == 1: return .flush
    case "hold" where words.count == 1: return .hold(seconds: 30)
    case "hold" where words.count == 2:
      if let seconds = Int(words[1]), (1...86400).contains(seconds) { return .hold(seconds: seconds) }
      throw cursor.fail("expected 'hold SECONDS' with 1 to 86400 seconds, found '\(text)'")
    default: throw cursor.fail("expected keep, flush or 'hold SECONDS', found '\(text)'")
    }
  }

  fileprivate static func absolutePath(_ cursor: YAMLCursor) throws(ConfigurationError) -> String {
    let path = try cursor.string("an absolute path")
    guard path.hasPrefix("/") else { throw cursor.fail("expected an absolute path, found '\(path)'") }
    return path
  }

  /// A path as it is, or in the folder of the file that names it.
  private static func resolve(_ path: String, beside file: String) -> String {
    guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
    return String(file[...slash]) + path
  }
}

// MARK: - Ports

extension GatewayConfiguration {
  private mutating func readPorts(_ cursor: YAMLCursor) throws(ConfigurationError) {
    var owners: [IPAddress: String] = [:]
    for item in try cursor.list("ports", limit: 64) {
      let port = try Port(item)
      guard self.port(named: port.name) == nil else { throw item.fail("a port named '\(port.name)' is there already") }
      guard !ports.contains(where: { $0.device == port.device }) else {
        throw item.fail("the device '\(port.device)' is used by another port already")
      }
      for address in port.addresses {
        if let owner = owners.updateValue(port.name, forKey: address.address) {
          throw item.fail("the address \(address.address) is on port '\(owner)' already")
        }
      }
      ports.append(port)
    }
    guard !ports.isEmpty else { throw cursor.fail("expected at least one port") }
  }

  private func checkPort(_ cursor: YAMLCursor) throws(ConfigurationError) -> String {
    let name = try cursor.string("the name of a port")
    guard port(named: name) != nil else {
      let hint = Suggestion.closest(to: name, among: ports.map(\.name)).map { "did you mean '\($0)'?" }
      throw cursor.fail(
        "there is no port '\(name)'; \(hint ?? "the ports are \(ports.map(\.name).joined(separator: ", "))")")
    }
    return name
  }

  private mutating func readRoutes(_ cursor: YAMLCursor) throws(ConfigurationError) {
    var seen: Set<IPPrefix> = []
    for item in try cursor.list("routes", limit: 1_000_000) {
      let fields = try item.mapping(["to", "via", "port"])
      var via: IPAddress?
      if let field = fields["via"] { via = try field.value(IPAddress.self, "the address of a gateway") }
      let to = try Self.prefix(item.require("to", in: fields, "a prefix, as in 172.20.1.0/24"), default: via?.family)
      var port: String?
      if let field = fields["port"] { port = try checkPort(field) }
      guard via != nil || port != nil else { throw item.fail("expected 'via' (an address) or 'port' (a port's name)") }
      if let via, via.family != to.family { throw item.fail("'to' (\(to)) and 'via' (\(via)) differ in family") }
      if let via, via.isUnspecified { throw item.fail("'via' is \(via): expected the address of a gateway") }
      guard seen.insert(to).inserted else { throw item.fail("a route to \(to) is there already") }
      routes.append(StaticRoute(to: to, via: via, port: port))
    }
  }

  private static func prefix(
    _ cursor: YAMLCursor, default family: AddressFamily?
  ) throws(ConfigurationError) -> IPPrefix {
    let text = try cursor.string("a prefix")
    if text == "default" {
      guard let family else { throw cursor.fail("'default' needs 'via'; write 0.0.0.0/0 or ::/0") }
      return .any(family)
    }
    let prefix = try cursor.value(IPPrefix.self, "a prefix, as in 172.20.1.0/24 or 2001:db8::/32")
    if let written = InterfaceAddress(text), written.address != prefix.address {
      throw cursor.fail("'\(text)' has bits set after its length; did you mean \(prefix.address)/\(prefix.length)?")
    }
    return prefix
  }

  private mutating func readNeighbors(_ cursor: YAMLCursor) throws(ConfigurationError) {
    var seen: Set<[String]> = []
    for item in try cursor.list("neighbors", limit: 65_536) {
      let fields = try item.mapping(["port", "address", "mac"])
      let port = try checkPort(item.require("port", in: fields, "the name of a port"))
      let address = try item.require("address", in: fields, "an address").value(IPAddress.self, "an address")
      let mac = try Self.unicastMAC(item.require("mac", in: fields, "a MAC address"))
      guard seen.insert([port, "\(address)"]).inserted else {
        throw item.fail("the neighbor \(address) on port '\(port)' is there already")
      }
      neighbors.append(StaticNeighbor(port: port, address: address, mac: mac))
    }
  }

  fileprivate static func unicastMAC(_ cursor: YAMLCursor) throws(ConfigurationError) -> MACAddress {
    let mac = try cursor.value(MACAddress.self, "a MAC address, as in \"02:00:00:00:00:02\"")
    guard !mac.isMulticast, mac.rawValue != 0 else { throw cursor.fail("\(mac) is not the address of one station") }
    return mac
  }
}

extension Port {
  fileprivate init(_ cursor: YAMLCursor) throws(ConfigurationError) {
    let fields = try cursor.mapping(["name", "device", "host", "addresses", "mtu", "mac", "queues", "source-check"])
    let nameCursor = try cursor.require("name", in: fields, "an interface name")
    let name = try nameCursor.string("an interface name")
    guard Self.isValidName(name) else {
      throw nameCursor.fail(
        "expected an interface name of 1 to 15 characters without blanks, '/' and ':', found '\(name)'")
    }
    let device = try cursor.require("device", in: fields, "a PCI address or a vdev")
    self.init(name: name, device: try device.string("a PCI address or a vdev"))
    if let field = fields["host"] { host = try field.bool() }
    if let field = fields["mtu"] { mtu = try field.int(68...9600, unit: "bytes") }
    if let field = fields["mac"] { mac = try GatewayConfiguration.unicastMAC(field) }
    if let field = fields["queues"] { queues = try field.int(1...256) }
    if let field = fields["source-check"] { sourceCheck = try field.choice(GatewayConfiguration.SourceCheck.self) }
    guard let field = fields["addresses"] else { return }
    for item in try field.list("addresses", limit: 1024) {
      let address = try item.value(InterfaceAddress.self, "an address with its prefix length, as in 192.0.2.1/24")
      guard !address.address.isUnspecified else { throw item.fail("\(address.address) is not an address for a port") }
      addresses.append(address)
    }
    if mtu < 1280, addresses.contains(where: { $0.address.family == .v6 }) {
      throw cursor.fail("an IPv6 address needs an mtu of at least 1280 (RFC 8200 5), found \(mtu)")
    }
  }
}

extension Limits {
  fileprivate init(_ cursor: YAMLCursor) throws(ConfigurationError) {
    self.init()
    let table: [(key: String, field: WritableKeyPath<Limits, Int>, range: ClosedRange<Int>)] = [
      ("sas", \.sas, 16...16_777_216), ("policies", \.policies, 16...16_777_216),
      ("schedules", \.schedules, 1...16_777_216), ("flows", \.flows, 16...16_777_216),
      ("routes", \.routes, 16...16_777_216), ("neighbors", \.neighbors, 16...1_048_576),
      ("queued-packets-per-neighbor", \.queuedPacketsPerNeighbor, 1...1024), ("acquires", \.acquires, 1...1_048_576),
      ("queued-packets-per-acquire", \.queuedPacketsPerAcquire, 0...1024),
      ("reassemblies", \.reassemblies, 0...1_048_576),
      ("icmp-errors-per-second", \.icmpErrorsPerSecond, 0...1_000_000),
    ]
    let fields = try cursor.mapping(table.map(\.key))
    for row in table {
      if let field = fields[row.key] { self[keyPath: row.field] = try field.int(row.range) }
    }
  }
}

extension KeyDaemon {
  fileprivate init(_ cursor: YAMLCursor) throws(ConfigurationError) {
    self.init()
    let fields = try cursor.mapping(["daemon", "vici", "control", "version", "credentials"])
    if let field = fields["daemon"] { kind = try field.choice(Kind.self) }
    if let field = fields["vici"] { vici = try GatewayConfiguration.absolutePath(field) }
    if let field = fields["control"] { control = try GatewayConfiguration.absolutePath(field) }
    if let field = fields["version"] { version = try field.choice(Version.self) }
    if let field = fields["credentials"] { credentials = try GatewayConfiguration.absolutePath(field) }
  }
}

extension GatewayConfiguration.Metrics {
  fileprivate init(_ cursor: YAMLCursor) throws(ConfigurationError) {
    let text = try cursor.string("an address and port")
    let error = cursor.fail("expected an address and port, as in \"127.0.0.1:9100\" or \"[::1]:9100\", found '\(text)'")
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
      throw error
    }
    var host = text[..<colon]
    let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
    if bracketed { host = host.dropFirst().dropLast() }
    guard let address = IPAddress(String(host)), (address.family == .v6) == bracketed else { throw error }
    self.init(address: address, port: port)
  }
}

extension ConfigurationError {
  /// libyaml's complaint, with its place.
  fileprivate init(file: String, yamlError error: any Error) {
    self.init(file: file, path: "", message: "\(error)")
    guard let error = error as? YamlError else { return }
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      (line, column) = (mark.line, mark.column)
      message = context.map { "\($0.text): \(problem)" } ?? problem
    case .reader(let problem, _, _, _): message = problem
    case .duplicatedKeysInMapping(let keys, let context):
      (line, column) = (context.mark.line, context.mark.column)
      message = "the key \(keys.sorted().map { "'\($0)'" }.joined(separator: ", ")) is there twice"
    default: break
    }
  }
}
