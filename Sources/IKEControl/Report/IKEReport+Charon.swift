extension IKEReport {
  /// What charon says of itself over VICI.
  public init(charon: VICIConnection) throws(VICIError) {
    let version = try charon.request("version")
    let stats = try charon.request("stats")
    self.init(
      daemon: Daemon(
        name: "charon", version: version.text("version"), socketPath: charon.path, processID: charon.daemonProcess,
        uptime: stats.section("uptime")?.text("running"), halfOpen: stats.section("ikesas")?.number("half-open")))
    var connections: [Connection] = []
    try charon.stream("list-conns", event: "list-conn") { answer in
      connections += answer.sections.map { Connection(name: $0.name, $0.section) }
    }
    self.connections = connections
    sas = try Self.sas(charon: charon)
  }

  /// Without waiting for SAs that are busy: a report is of the moment.
  static func sas(charon: VICIConnection) throws(VICIError) -> [IKESA] {
    var sas: [IKESA] = []
    try charon.stream("list-sas", VICISection(["noblock": "yes"]), event: "list-sa") { answer in
      sas += answer.sections.map { IKESA(name: $0.name, $0.section) }
    }
    return sas
  }
}

extension IKEReport.Connection {
  init(name: String, _ section: VICISection) {
    self.init(name: name)
    version = section.text("version")
    localAddresses = section.list("local_addrs")
    remoteAddresses = section.list("remote_addrs")
    local = Self.side(section, "local")
    remote = Self.side(section, "remote")
    rekeySeconds = section.number("rekey_time").flatMap { $0 > 0 ? $0 : nil }
    deadPeerSeconds = section.number("dpd_delay").flatMap { $0 > 0 ? $0 : nil }
    children = (section.section("children")?.sections ?? []).map { name, child in
      IKEReport.ConnectionChild(
        name: name, mode: (child.text("mode") ?? "").lowercased(), localSelectors: child.list("local-ts"),
        remoteSelectors: child.list("remote-ts"),
        rekeySeconds: child.number("rekey_time").flatMap { $0 > 0 ? $0 : nil })
    }
  }

  private static func side(_ section: VICISection, _ prefix: String) -> String? {
    guard let side = section.sections.first(where: { $0.name.hasPrefix(prefix + "-") })?.section else { return nil }
    let method = side.text("class").map { $0 == "pre-shared key" ? "psk" : $0 } ?? "any"
    return side.text("id").map { "\(method), \($0)" } ?? method
  }
}

extension IKEReport.IKESA {
  init(name: String, _ sa: VICISection) {
    self.init(name: name, id: sa.text("uniqueid") ?? "", state: sa.text("state") ?? "")
    version = sa.text("version").map { "IKEv\($0)" }
    localHost = sa.text("local-host")
    localPort = sa.number("local-port")
    localID = sa.text("local-id")
    remoteHost = sa.text("remote-host")
    remotePort = sa.number("remote-port")
    remoteID = sa.text("remote-id")
    isInitiator = sa.text("initiator") == "yes"
    initiatorSPI = sa.text("initiator-spi")
    responderSPI = sa.text("responder-spi")
    transform = Self.transform(sa, ["prf-alg", "dh-group"])
    if sa.text("nat-local") == "yes" { nat.append("local") }
    if sa.text("nat-remote") == "yes" { nat.append("remote") }
    establishedSeconds = sa.number("established")
    rekeySeconds = sa.number("rekey-time")
    reauthenticationSeconds = sa.number("reauth-time")
    tasks =
      sa.list("tasks-active").map { "active \($0)" } + sa.list("tasks-queued").map { "queued \($0)" }
      + sa.list("tasks-passive").map { "passive \($0)" }
    children = (sa.section("child-sas")?.sections ?? []).map { IKEReport.ChildSA($0.name, $0.section) }
  }

  static func transform(_ sa: VICISection, _ more: [String]) -> String? {
    func sized(_ name: String, _ size: String) -> String? {
      sa.text(name).map { text in sa.text(size).map { "\(text)-\($0)" } ?? text }
    }
    let words = [sized("encr-alg", "encr-keysize"), sized("integ-alg", "integ-keysize")] + more.map { sa.text($0) }
    let known = words.compactMap(\.self)
    return known.isEmpty ? nil : known.joined(separator: " ")
  }
}

extension IKEReport.ChildSA {
  init(_ key: String, _ sa: VICISection) {
    self.init(name: sa.text("name") ?? key, id: sa.text("uniqueid") ?? "", state: sa.text("state") ?? "")
    requestID = sa.number("reqid")
    mode = sa.text("mode")?.lowercased()
    saProtocol = sa.text("protocol")?.lowercased()
    isInUDP = sa.text("encap") == "yes"
    spiIn = sa.text("spi-in")
    spiOut = sa.text("spi-out")
    transform = IKEReport.IKESA.transform(sa, ["prf-alg", "dh-group"])
    isESN = sa.text("esn") == "1"
    bytesIn = sa.number("bytes-in")
    packetsIn = sa.number("packets-in")
    bytesOut = sa.number("bytes-out")
    packetsOut = sa.number("packets-out")
    // charon subtracts: a last use in the second that begins just now comes out as nearly 2^64.
    idleInSeconds = sa.number("use-in").map { $0 > UInt64(UInt32.max) ? 0 : $0 }
    idleOutSeconds = sa.number("use-out").map { $0 > UInt64(UInt32.max) ? 0 : $0 }
    installedSeconds = sa.number("install-time")
    rekeySeconds = sa.number("rekey-time")
    expirySeconds = sa.number("life-time")
    localSelectors = sa.list("local-ts")
    remoteSelectors = sa.list("remote-ts")
  }
}
