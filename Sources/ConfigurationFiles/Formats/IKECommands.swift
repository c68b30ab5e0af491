import IPsec
import Wire

/// What `ipsecctl` tells isakmpd through its FIFO to set up an `ike` rule, or to undo it (`-d`).
public struct IKECommands: Sendable {
  /// Up to where something is missing in isakmpd's vocabulary, if so even half a line.
  public private(set) var text = ""
  /// `illegal transform …`: the rule cannot be carried out.
  public private(set) var failure: String?

  private let rule: IKERule
  private let names: IKENames
  private let hostname: String

  public init(_ rule: IKERule, options: PrintOptions = PrintOptions()) {
    self.rule = rule
    names = IKENames(rule)
    hostname = options.hostname
    do {
      if options.deletes { delete() } else { try configure() }
    } catch {
      failure = error.message
    }
  }

  struct Failure: Error { var message: String }

  private mutating func set(_ section: String, _ key: String, _ value: String) {
    text += "C set [\(section)]:\(key)=\(value) force\n"
  }

  // MARK: Undoing

  private mutating func delete() {
    text += "t \(names.phase2)\n"
    text += "C rmv [Phase 2]:\(connectionList)=\(names.phase2)\n"
    text += "C rms [\(names.phase2)]\n"
    text += "C rms [phase2-\(names.phase2)]\n"
  }

  private var connectionList: String { rule.mode == .passive ? "Passive-Connections" : "Connections" }

  // MARK: Doing

  private mutating func configure() throws(Failure) {
    if rule.mode == .dynamic {
      set("General", "Check-interval", "30")
      set("General", "DPD-check-interval", "5")
    }
    setPeer()
    try setPhase1()
    setIdentities()
    setConnection()
    try setPhase2()
    setPhase2IDs()
    text += "C add [Phase 2]:\(connectionList)=\(names.phase2)\n"
  }

  private mutating func setPeer() {
    set("Phase 1", rule.peer?.name ?? "Default", names.phase1)
    set(names.phase1, "Phase", "1")
    if let peer = rule.peer { set(names.phase1, "Address", peer.name) }
    if let local = rule.local { set(names.phase1, "Local-address", local.name) }
    if case .psk(let key) = rule.authentication {
      set(names.phase1, "Authentication", String(decoding: key.bytes, as: UTF8.self))
    }
  }

  private mutating func setIdentities() {
    let source = rule.identities.source ?? (rule.mode == .dynamic ? hostname : nil)
    // A host's name is one, whatever it looks like.
    if let source { setIdentity("ID", source, isName: rule.identities.source == nil) }
    if let destination = rule.identities.destination { setIdentity("Remote-ID", destination, isName: false) }
  }

  private mutating func setIdentity(_ key: String, _ text: String, isName: Bool) {
    let address = isName ? nil : IPAddress(text)
    let type =
      switch address?.family {
      case .v4?: "IPV4_ADDR"
      case .v6?: "IPV6_ADDR"
      case nil: !isName && text.contains("@") ? "USER_FQDN" : "FQDN"
      }
    set(names.phase1, key, "id-\(text)")
    set("id-\(text)", "ID-type", type)
    set("id-\(text)", address == nil ? "Name" : "Address", text)
  }

  private mutating func setConnection() {
    set(names.phase2, "Phase", "2")
    set(names.phase2, "ISAKMP-peer", names.phase1)
    set(names.phase2, "Configuration", "phase2-\(names.phase2)")
    set(names.phase2, "Local-ID", names.localID)
    if let nat = names.natID { set(names.phase2, "NAT-ID", nat) }
    set(names.phase2, "Remote-ID", names.remoteID)
    if let tag = rule.tag { set(names.phase2, "PF-Tag", tag) }
    if let unit = rule.interface { set(names.phase2, "Interface", "\(unit)") }
  }

  // MARK: Phase 1

  private mutating func setPhase1() throws(Failure) {
    let transforms = rule.phase1.transforms
    set(names.phase1, "Configuration", "phase1-\(names.phase1)")
    set("phase1-\(names.phase1)", "EXCHANGE_TYPE", rule.phase1.exchange == .aggressive ? "AGGRESSIVE" : "ID_PROT")
    let encryption = try ISAKMPName.phase1(transforms?.encryption ?? .aes)
    let hash = try ISAKMPName.hash(transforms?.authentication ?? .hmacSHA1, phase: 1) ?? ""
    let group = try ISAKMPName.group(transforms?.group ?? .modp3072, phase: 1) ?? ""
    let method = if case .psk = rule.authentication { "PRE_SHARED" } else { "RSA_SIG" }
    let name =
      "phase1-transform-\(names.phase1)-\(method)-\(hash)-\(encryption.name)\(encryption.shortLength)-\(group)"
    text += "C add [phase1-\(names.phase1)]:Transforms=\(name) force\n"
    set(name, "AUTHENTICATION_METHOD", method)
    set(name, "HASH_ALGORITHM", hash)
    set(name, "ENCRYPTION_ALGORITHM", "\(encryption.name)_CBC")
    if let length = encryption.keyLength { set(name, "KEY_LENGTH", length) }
    set(name, "GROUP_DESCRIPTION", group)
    setLife(name, rule.phase1.lifetime, default: "LIFE_MAIN_MODE")
  }

  private mutating func setLife(_ transform: String, _ seconds: Int?, default name: String) {
    guard let seconds else { return set(transform, "Life", name) }
    set(transform, "Life", "\(transform)-life")
    set("\(transform)-life", "LIFE_TYPE", "SECONDS")
    set("\(transform)-life", "LIFE_DURATION", "\(seconds)")
  }

  // MARK: Phase 2

  private mutating func setPhase2() throws(Failure) {
    let name = names.phase2
    let transforms = rule.phase2.transforms
    set("phase2-\(name)", "EXCHANGE_TYPE", "QUICK_MODE")
    set("phase2-\(name)", "Suites", "phase2-suite-\(name)")
    set("phase2-suite-\(name)", "Protocols", "phase2-protocol-\(name)")
    text += "C set [phase2-protocol-\(name)]:PROTOCOL_ID="
    guard rule.saProtocol == .esp || rule.saProtocol == .ah else {
      throw Failure(message: "illegal satype \(rule.saProtocol == .ipcomp ? 3 : 5)")
    }
    text += "\(rule.saProtocol == .esp ? "IPSEC_ESP" : "IPSEC_AH") force\n"

    let encryption = try phase2Encryption()
    let encapsulation = rule.encapsulation == .tunnel ? "TUNNEL" : "TRANSPORT"
    var hash: String?
    if let wanted = transforms?.authentication {
      hash = try ISAKMPName.hash(wanted, phase: 2)
    } else if encryption?.needsAuthentication ?? true {
      hash = "SHA2_256"
    }
    let group = try ISAKMPName.group(transforms?.group ?? .modp3072, phase: 2)

    let transform =
      "phase2-transform-\(name)-\(encryption?.name ?? "NONE")\(encryption?.shortLength ?? "")-\(hash ?? "NONE")"
      + "-\(group ?? "NONE")-\(encapsulation)"
    set("phase2-protocol-\(name)", "Transforms", transform)
    let identifier = rule.saProtocol == .ah ? hash : encryption?.name
    set(transform, "TRANSFORM_ID", identifier ?? "(null)")
    if let length = encryption?.keyLength { set(transform, "KEY_LENGTH", length) }
    set(transform, "ENCAPSULATION_MODE", encapsulation)
    if let hash { set(transform, "AUTHENTICATION_ALGORITHM", "HMAC_\(hash)") }
    if let group { set(transform, "GROUP_DESCRIPTION", group) }
    setLife(transform, rule.phase2.lifetime, default: "LIFE_QUICK_MODE")
  }

  private func phase2Encryption() throws(Failure) -> ISAKMPName.Cipher? {
    guard let wanted = rule.phase2.transforms?.encryption else {
      return rule.saProtocol == .esp ? try ISAKMPName.phase2(.aes) : nil
    }
    guard rule.saProtocol == .esp else { throw Failure(message: "illegal transform \(wanted.rawValue)") }
    return try ISAKMPName.phase2(wanted)
  }

  private mutating func setPhase2IDs() {
    setID(names.localID, rule.source)
    if let nat = rule.sourceNAT, let name = names.natID { setID(name, nat) }
    setID(names.remoteID, rule.destination)
    if rule.ipProtocol != 0 {
      set(names.localID, "Protocol", "\(rule.ipProtocol)")
      set(names.remoteID, "Protocol", "\(rule.ipProtocol)")
    }
    if rule.sourcePort != 0 { set(names.localID, "Port", "\(rule.sourcePort)") }
    if rule.destinationPort != 0 { set(names.remoteID, "Port", "\(rule.destinationPort)") }
  }

  private mutating func setID(_ section: String, _ host: Host) {
    let version = host.family == .v4 ? 4 : 6
    let base = host.name.lastIndex(of: "/").map { String(host.name[..<$0]) } ?? host.name
    if host.isNetwork {
      set(section, "ID-type", "IPV\(version)_ADDR_SUBNET")
      set(section, "Network", base)
      set(section, "Netmask", "\(IPAddress.netmask(host.length, host.family))")
    } else {
      set(section, "ID-type", "IPV\(version)_ADDR")
      set(section, "Address", base)
    }
  }
}

/// The names of a rule's sections in isakmpd's configuration.
struct IKENames {
  var phase1: String
  var phase2: String
  var localID: String
  var remoteID: String
  var natID: String?

  init(_ rule: IKERule) {
    phase1 = rule.peer.map { "peer-\($0.name)" } ?? "peer-default"
    if rule.peer != nil, let local = rule.local { phase1 += "-local-\(local.name)" }
    let ipProtocol = rule.ipProtocol == 0 ? "" : "=\(rule.ipProtocol)"
    let sourcePort = rule.sourcePort == 0 ? "" : ":\(rule.sourcePort)"
    let destinationPort = rule.destinationPort == 0 ? "" : ":\(rule.destinationPort)"
    if let unit = rule.interface {
      (localID, remoteID) = ("from-sec\(unit)", "to-sec\(unit)")
    } else {
      localID = "from-\(rule.source.name)\(ipProtocol)\(sourcePort)"
      remoteID = "to-\(rule.destination.name)\(ipProtocol)\(destinationPort)"
    }
    phase2 = "\(localID)-\(remoteID)"
    natID = rule.sourceNAT.map { "nat-\($0.name)\(ipProtocol)\(sourcePort)" }
  }
}

/// isakmpd's words for transforms; the illegal ones of each phase are refused as ipsecctl does.
enum ISAKMPName {
  struct Cipher {
    var name: String
    /// `default,min:max` in bits.
    var keyLength: String?
    var needsAuthentication = true

    /// The default length, as it stands in the names of transforms.
    var shortLength: String { keyLength.map { String($0.prefix { $0 != "," }) } ?? "" }
  }

  static func phase1(_ encryption: EncryptionName) throws(IKECommands.Failure) -> Cipher {
    guard encryption.row.isPhase1 else {
      throw IKECommands.Failure(message: "illegal transform \(encryption.rawValue)")
    }
    return try phase2(encryption)
  }

  static func phase2(_ encryption: EncryptionName) throws(IKECommands.Failure) -> Cipher {
    let row = encryption.row
    guard !row.isakmpd.isEmpty else {
      throw IKECommands.Failure(message: "illegal transform \(encryption.rawValue)")
    }
    return Cipher(
      name: row.isakmpd, keyLength: row.isakmpdBits, needsAuthentication: !encryption.isAEAD && encryption != .null)
  }

  static func hash(_ name: AuthenticationName, phase: Int) throws(IKECommands.Failure) -> String? {
    let row = name.row
    guard !row.isakmpd.isEmpty, phase == 2 || row.isPhase1 else {
      throw IKECommands.Failure(message: "illegal transform \(name.rawValue)")
    }
    return row.isakmpd
  }

  /// Nil for `none`, which phase 2 allows: no perfect forward secrecy.
  static func group(_ group: DiffieHellmanGroup, phase: Int) throws(IKECommands.Failure) -> String? {
    let name = "\(group)"
    switch group {
    case .none where phase == 2: return nil
    case .unknown, .none: throw IKECommands.Failure(message: "illegal group \(name)")
    default:
      let digits = name.drop { !$0.isNumber }
      return "\(name.dropLast(digits.count).uppercased())_\(digits)"
    }
  }
}

extension IPAddress {
  /// 255.255.255.0 and the like.
  static func netmask(_ length: UInt8, _ family: AddressFamily) -> IPAddress {
    let ones: IPAddress =
      family == .v4 ? .v4(IPv4Address(rawValue: .max)) : .v6(IPv6Address(high: .max, low: .max))
    return ones.masked(to: min(length, family.bits))
  }
}
