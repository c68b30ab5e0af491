import Engines
import IPsec
import Wire

/// The extensions of a PF_KEY message as OpenBSD numbers and prints them, each `\tNAME: VALUE`, in order of number.
struct ExtensionList {
  /// OpenBSD's numbers.
  enum Kind: Int, Comparable {
    case sa = 1
    case lifetimeCurrent, lifetimeHard, lifetimeSoft
    case addressSource, addressDestination
    case keyAuthentication = 8
    case keyEncryption, identitySource, identityDestination
    case proposal = 13
    case sourceMask = 17
    case destinationMask, ipProtocol, flowType, sourceFlow, destinationFlow, sa2, destination2
    case remoteAuthentication = 29
    case udpEncapsulation = 31
    case lifetimeLastUse
    case saType2 = 35
    case counter
    case mtu = 38
    case replay, interface

    var name: String {
      switch self {
      case .sa: "sa"
      case .lifetimeCurrent: "lifetime_cur"
      case .lifetimeHard: "lifetime_hard"
      case .lifetimeSoft: "lifetime_soft"
      case .addressSource: "address_src"
      case .addressDestination: "address_dst"
      case .keyAuthentication: "key_auth"
      case .keyEncryption: "key_encrypt"
      case .identitySource: "identity_src"
      case .identityDestination: "identity_dst"
      case .proposal: "proposal"
      case .sourceMask: "src_mask"
      case .destinationMask: "dst_mask"
      case .ipProtocol: "protocol"
      case .flowType: "flow_type"
      case .sourceFlow: "src_flow"
      case .destinationFlow: "dst_flow"
      case .sa2: "sa2"
      case .destination2: "dst2"
      case .remoteAuthentication: "remote_auth"
      case .udpEncapsulation: "udpencap"
      case .lifetimeLastUse: "lifetime_lastuse"
      case .saType2: "satype2"
      case .counter: "counter"
      case .mtu: "mtu"
      case .replay: "replay"
      case .interface: "interface"
      }
    }

    static func < (a: Kind, b: Kind) -> Bool { a.rawValue < b.rawValue }
  }

  private var items: [(kind: Kind, text: String)] = []
  /// 64-bit words that the extensions would have in a message.
  private(set) var words = 0

  init() {}

  var text: String {
    items.sorted { $0.kind < $1.kind }.map { "\t\($0.kind.name): \($0.text)\n" }.joined()
  }

  private mutating func add(_ kind: Kind, _ text: String, words: Int) {
    items.append((kind, text))
    self.words += words
  }

  // MARK: SAs

  /// All that a dump tells of an SA.
  init(_ sa: SARecord, showsKeys: Bool, showsZeroCounters: Bool) {
    addSA(sa)
    addLifetime(.lifetimeCurrent, Lifetime(sa.usage))
    addLimits(sa.parameters)
    if sa.usage.lastUsed != 0 { addLifetime(.lifetimeLastUse, Lifetime(useTime: sa.usage.lastUsed)) }
    addAddresses(sa.parameters.source, sa.parameters.destination)
    if showsKeys { addKeys(sa.parameters) }
    addIdentities(sa.parameters.sourceIdentity, sa.parameters.destinationIdentity)
    if let selector = sa.parameters.selector {
      addFlow(selector, type: .use, direction: sa.isOutgoing ? .out : .in)
    }
    if let udp = sa.parameters.encapsulation { addUDPEncapsulation(udp) }
    addCounters(sa.counters, showsZero: showsZeroCounters)
    if sa.mtu > 0 { add(.mtu, "mtu \(sa.mtu)", words: 1) }
    add(.replay, "rpl \(sa.replayCount)", words: 2)
    if sa.parameters.interfaceID != 0 {
      add(
        .interface, "sec\(sa.parameters.interfaceID) direction \(sa.isOutgoing ? "out" : "in")", words: 2)
    }
  }

  /// `rsa` or `passphrase`.
  mutating func addRemoteAuthentication(_ type: String) {
    add(.remoteAuthentication, "type \(type)", words: 1)
  }

  mutating func addSA(_ sa: SARecord) {
    let isIPComp = sa.parameters.saProtocol == .ipcomp
    add(.sa, Self.saText(sa.parameters.spi, sa, isIPComp: isIPComp), words: 2)
  }

  private static func saText(_ spi: UInt32, _ sa: SARecord?, isIPComp: Bool) -> String {
    var text: String
    if isIPComp {
      text = "cpi \(RuleText.hex(spi)) comp \(sa?.parameters.compression.map { "\($0)" } ?? "none")\n"
    } else {
      let authentication = sa.map { SALineMaker.extensionAuthentication($0.parameters) } ?? "unknown"
      let encryption = sa.map { SALineMaker.extensionEncryption($0.parameters) } ?? "unknown"
      text = "spi \(RuleText.hex(spi)) auth \(authentication) enc \(encryption)\n"
    }
    guard let sa else { return text + "\t\tstate unknown replay 0 flags 0<>" }
    text += "\t\tstate \(sa.state) replay \(sa.parameters.replayWindow) flags \(flags(sa.parameters))"
    return text
  }

  /// `0x404<tunnel,esn>`.
  private static func flags(_ sa: SAParameters) -> String {
    var value = 0
    var names: [String] = []
    if sa.mode == .tunnel && sa.saProtocol != .ipip {
      value |= 0x4
      names.append("tunnel")
    }
    if sa.encapsulation != nil {
      value |= 0x200
      names.append("udpencap")
    }
    if sa.extendedSequenceNumbers {
      value |= 0x400
      names.append("esn")
    }
    let hex = value == 0 ? "0" : "0x\(String(value, radix: 16))"
    return "\(hex)<\(names.joined(separator: ","))>"
  }

  mutating func addLifetime(_ kind: Kind, _ lifetime: Lifetime) {
    add(
      kind,
      "alloc \(lifetime.packets) bytes \(lifetime.bytes) add \(lifetime.addTime) first \(lifetime.useTime)", words: 4)
  }

  /// Hard and soft, where there are any.
  mutating func addLimits(_ sa: SAParameters) {
    if sa.hard != .unlimited { addLifetime(.lifetimeHard, sa.hard) }
    if sa.soft != .unlimited { addLifetime(.lifetimeSoft, sa.soft) }
  }

  private mutating func addKeys(_ sa: SAParameters) {
    guard sa.saProtocol == .esp || sa.saProtocol == .ah else { return }
    let line = SALineMaker.line(sa)
    for (kind, key) in [(Kind.keyAuthentication, line.authenticationKey), (.keyEncryption, line.encryptionKey)] {
      if let key { add(kind, "bits \(key.count * 8): \(key.revealedHex())", words: 1 + (key.count + 7) / 8) }
    }
  }

  mutating func addUDPEncapsulation(_ udp: UDPEncapsulation) {
    add(.udpEncapsulation, "udpencap port \(udp.destinationPort)", words: 1)
  }

  private mutating func addCounters(_ counters: SACounters, showsZero: Bool) {
    let lines: [(UInt64, (String) -> String)] = [
      (counters.inputPackets, { "input packet\($0)" }), (counters.outputPackets, { "output packet\($0)" }),
      (counters.inputBytes, { "input byte\($0)" }), (counters.outputBytes, { "output byte\($0)" }),
      (counters.decompressedBytes, { "input byte\($0), decompressed" }),
      (counters.uncompressedBytes, { "output byte\($0), uncompressed" }),
      (counters.inputDrops, { "packet\($0) dropped on input" }),
      (counters.outputDrops, { "packet\($0) dropped on output" }),
    ]
    let text = lines.filter { $0.0 != 0 || showsZero }
      .map { "\t\t\($0.0) \($0.1($0.0 == 1 ? "" : "s"))\n" }.joined()
    add(.counter, "\n\(text)", words: 9)
  }

  mutating func addBundle(_ next: SAIdentifier, _ record: SARecord?, isIPComp: Bool) {
    add(.sa2, Self.saText(next.spi, record, isIPComp: isIPComp), words: 2)
    add(.destination2, "\(next.destination)", words: Self.addressWords(next.destination))
    add(.saType2, "type \(next.saProtocol)", words: 1)
  }

  // MARK: Addresses, identities, flows

  private static func addressWords(_ address: IPAddress) -> Int { address.family == .v4 ? 3 : 5 }

  mutating func addAddress(_ kind: Kind, _ address: IPAddress, port: UInt16 = 0) {
    add(kind, port == 0 ? "\(address)" : "\(address) port \(port)", words: Self.addressWords(address))
  }

  /// Nil: not in the message.
  mutating func addAddresses(_ source: IPAddress?, _ destination: IPAddress?) {
    if let source { addAddress(.addressSource, source) }
    if let destination { addAddress(.addressDestination, destination) }
  }

  mutating func addIdentities(_ source: Identity?, _ destination: Identity?) {
    for (kind, identity) in [(Kind.identitySource, source), (.identityDestination, destination)] {
      guard let identity else { continue }
      let type =
        switch identity.kind {
        case .reserved: "reserved"
        case .prefix: "prefix"
        case .fqdn: "fqdn"
        case .ufqdn: "ufqdn"
        case .asn1DN: "asn1_dn"
        }
      add(kind, "type \(type) id 0: \(identity.text)", words: 2 + (identity.text.utf8.count + 8) / 8)
    }
  }

  mutating func addFlow(_ selector: Selector, type: PolicyType, direction: PolicyDirection) {
    func mask(_ prefix: IPPrefix) -> IPAddress { .netmask(prefix.length, prefix.family) }
    func ports(_ range: ClosedRange<UInt16>) -> (value: UInt16, mask: UInt16) {
      range == Selector.anyPort ? (0, 0) : (range.lowerBound, 0xffff)
    }
    let (source, destination) = (ports(selector.sourcePorts), ports(selector.destinationPorts))
    addAddress(.sourceMask, mask(selector.source), port: source.mask)
    addAddress(.destinationMask, mask(selector.destination), port: destination.mask)
    add(.ipProtocol, "proto \(selector.ipProtocol ?? 0) flags 0", words: 1)
    add(.flowType, "type \(type) direction \(direction == .out ? "out" : "in")", words: 1)
    addAddress(.sourceFlow, selector.source.address, port: source.value)
    addAddress(.destinationFlow, selector.destination.address, port: destination.value)
  }

  // MARK: Acquires

  /// The one proposal that OpenBSD makes, its labels of hard and soft exchanged as there.
  mutating func addProposal() {
    let text = """
      replay 0
      \t\tauth hmac-sha2-256 min 256 max 256
      \t\tenc aes min 128 max 256
      \t\taddtime hard 80000 soft 86400
      \t\tusetime hard 3600 soft 7200
      """
    add(.proposal, text, words: 10)
  }
}

extension Lifetime {
  /// What has been used so far, as `lifetime_cur` tells it.
  init(_ usage: Usage) {
    self.init(packets: usage.packets, bytes: usage.bytes, addTime: usage.added, useTime: usage.firstUsed)
  }
}

extension SARecord {
  /// OpenBSD counts ESP's and AH's next number to use, and begins with 1.
  fileprivate var replayCount: UInt64 {
    guard parameters.saProtocol == .esp || parameters.saProtocol == .ah else { return sequence }
    return isOutgoing ? sequence &+ 1 : max(1, sequence)
  }

  /// Said by the parameters, else seen from what it has carried.
  var isOutgoing: Bool { parameters.direction.map { $0 == .out } ?? (counters.outputPackets > 0) }
}
