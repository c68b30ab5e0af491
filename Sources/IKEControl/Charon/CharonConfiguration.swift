import ConfigurationFiles
import Engines
import IPsec
import Wire

/// `ike` rules as charon takes them: a connection for each peer with a child for each rule, and the pre-shared keys.
public struct CharonConfiguration: Sendable {
  public struct Connection: Sendable, Equatable {
    public var name: String
    /// What `load-conn` has in the section of that name.
    public var section: VICISection
    /// The rules' names.
    public var children: [String]
  }

  public struct Secret: Sendable, Equatable {
    public var id: String
    /// What `load-shared` takes.
    public var message: VICISection
  }

  public private(set) var connections: [Connection] = []
  public private(set) var secrets: [Secret] = []
  /// Rules that charon cannot carry out; the others stand.
  public private(set) var refusals: [IKERefusal] = []

  /// - Parameters:
  ///   - hostname: the identity of `dynamic` rules that name none.
  ///   - publicKey: a raw public key for an identity (nil: the gateway's own), where there is one.
  public init(
    _ rules: [IKEConnection], version: KeyDaemon.Version = .v2, hostname: String = "",
    publicKey: (Identity?) -> [UInt8]? = { _ in nil }
  ) {
    for var peer in IKEPeer.grouped(rules) {
      var children = VICISection()
      var accepted: [IKEConnection] = []
      // Each rule adds its own to what the peer is offered for the IKE SA, as in isakmpd.
      var proposals: [String] = []
      for rule in peer.connections {
        do throws(IKERefusal) {
          let child = try Self.child(rule, version)
          let proposal = try Self.word(rule, "main") { () throws(CharonWords.Unknown) in
            try CharonWords.ike(rule.phase1)
          }
          if !proposals.contains(proposal) { proposals.append(proposal) }
          children.set(rule.name, section: child)
          accepted.append(rule)
        } catch {
          refusals.append(error)
        }
      }
      guard !accepted.isEmpty else { continue }
      peer.connections = accepted
      do throws(IKERefusal) {
        var section = try Self.connection(peer.last, proposals, version, hostname, publicKey)
        section.set("children", section: children)
        connections.append(Connection(name: peer.name, section: section, children: accepted.map(\.name)))
        if case .psk(let key) = peer.last.authentication { secrets.append(Self.secret(peer.last, key)) }
      } catch {
        refusals += accepted.map { IKERefusal(connection: $0.name, reason: error.reason) }
      }
    }
  }

  // MARK: IKE SA

  private static func connection(
    _ rule: IKEConnection, _ proposals: [String], _ version: KeyDaemon.Version, _ hostname: String,
    _ publicKey: (Identity?) -> [UInt8]?
  ) throws(IKERefusal) -> VICISection {
    let isAggressive = rule.exchange == .aggressive
    guard !isAggressive || version != .v2 else {
      throw IKERefusal(
        connection: rule.name, reason: "aggressive is IKE version 1: say ike: {version: 1} in gateway.yaml, or main")
    }
    var section = VICISection([
      "version": isAggressive || version == .v1 ? "1" : version == .v2 ? "2" : "0",
      "mobike": "no",
      // One that is not there yet is asked for again by the gateway.
      "keyingtries": "1",
      // A peer that is gone is noticed; `dynamic` looks as often as isakmpd does then.
      "dpd_delay": rule.mode == .dynamic ? "5s" : "30s",
    ])
    if isAggressive { section.set("aggressive", "yes") }
    section.set("local_addrs", list: [rule.local.map { "\($0)" } ?? "%any"])
    section.set("remote_addrs", list: [rule.peer.map { "\($0)" } ?? "%any"])
    section.set("proposals", list: proposals)
    let times = Lifetime(rule.phase1Lifetime)
    section.set("rekey_time", "\(times.rekey)s")
    section.set("over_time", "\(times.margin)s")
    section.set("rand_time", "\(times.random)s")
    let hostIdentity =
      rule.mode == .dynamic && !hostname.isEmpty ? Identity(kind: .fqdn, text: hostname) : nil
    section.set("local-1", section: side(rule, rule.localIdentity ?? hostIdentity, publicKey(nil)))
    // Pre-shared keys are found by identity: without dstid it is the peer's address, as isakmpd's own default is.
    let address = rule.peer.map { Identity(kind: .prefix, text: "\($0)/\($0.family.bits)") }
    let remote = rule.remoteIdentity ?? address
    section.set(
      "remote-1",
      section: side(
        rule, rule.isPSK ? remote : rule.remoteIdentity, rule.isPSK ? nil : remote.flatMap(publicKey)))
    return section
  }

  private static func side(_ rule: IKEConnection, _ identity: Identity?, _ publicKey: [UInt8]?) -> VICISection {
    var section = VICISection(["auth": rule.isPSK ? "psk" : "pubkey"])
    if let identity { section.set("id", CharonWords.identity(identity)) }
    if let publicKey, !rule.isPSK { section.set("pubkeys", value: .list([publicKey])) }
    return section
  }

  // MARK: Child SA

  private static func child(_ rule: IKEConnection, _ version: KeyDaemon.Version) throws(IKERefusal) -> VICISection {
    try rule.common()
    if let tag = rule.tag {
      throw IKERefusal(connection: rule.name, reason: "tag \(tag): tags are for pf, which the gateway does not have")
    }
    let selector = rule.selector
    var section = VICISection(["mode": rule.encapsulation == .tunnel ? "tunnel" : "transport"])
    section.set(
      "local_ts",
      list: [
        CharonWords.selector(selector.source, ipProtocol: selector.ipProtocol, ports: selector.sourcePorts)
      ])
    section.set(
      "remote_ts",
      list: [
        CharonWords.selector(selector.destination, ipProtocol: selector.ipProtocol, ports: selector.destinationPorts)
      ])
    // Extended sequence numbers are IKEv2's to negotiate here: preferred, and not insisted on.
    let offersESN = version != .v1 && rule.exchange != .aggressive
    let proposal = try word(rule, "quick") { () throws(CharonWords.Unknown) in
      try CharonWords.child(rule.phase2, offersESN: offersESN)
    }
    section.set(rule.saProtocol == .ah ? "ah_proposals" : "esp_proposals", list: [proposal])
    let times = Lifetime(rule.phase2Lifetime)
    section.set("life_time", "\(rule.phase2Lifetime)s")
    section.set("rekey_time", "\(times.rekey)s")
    section.set("rand_time", "\(times.random)s")
    section.set("replay_window", "1024")
    // The policies of an active rule are there from the start, so nothing that they name leaves in clear; the gateway
    // itself asks for the SAs.
    section.set("start_action", rule.mode == .passive ? "none" : "trap")
    section.set("close_action", "none")
    section.set("dpd_action", "clear")
    return section
  }

  private static func word(
    _ rule: IKEConnection, _ phase: String, _ body: () throws(CharonWords.Unknown) -> String
  ) throws(IKERefusal) -> String {
    do { return try body() } catch {
      throw IKERefusal(connection: rule.name, reason: "\(phase) \(error.word): charon does not have it")
    }
  }

  // MARK: Pre-shared keys

  private static func secret(_ rule: IKEConnection, _ key: SecretBytes) -> Secret {
    var message = VICISection(["id": "gw-\(rule.peerName)", "type": "IKE"])
    message.set("data", value: .secret(key))
    var owners = rule.peer.map { ["\($0)"] } ?? []
    if let identity = rule.remoteIdentity { owners.append(CharonWords.identity(identity)) }
    // Without owners it is for everybody: the default peer.
    if !owners.isEmpty { message.set("owners", list: owners) }
    return Secret(id: "gw-\(rule.peerName)", message: message)
  }
}

/// When to rekey what lives for so many seconds: at nine tenths, up to a twentieth earlier.
struct Lifetime {
  var rekey: Int
  var margin: Int
  var random: Int

  init(_ seconds: Int) {
    margin = max(1, seconds / 10)
    rekey = max(1, seconds - margin)
    random = seconds / 20
  }
}
