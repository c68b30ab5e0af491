import Engines
import Glibc
import IPsec
import Wire

/// ADD, UPDATE and GETSPI as the database's values.
struct PFKeySAReading {
  // SADB_SAFLAGS_… of Linux
  private static let noECN: UInt32 = 0x8000_0000
  private static let noPMTUDiscovery: UInt32 = 0x2000_0000
  // SADB_X_SAFLAGS_… of OpenBSD
  static let tunnel: UInt32 = 0x4
  static let udpEncapsulation: UInt32 = 0x200
  static let esn: UInt32 = 0x400
  /// OpenBSD's parser takes no more.
  private static let largestWindow: UInt8 = 64
  /// RFC 3948.
  private static let espInUDP: UInt8 = 2
  private static let natPort: UInt16 = 4500

  let extensions: PFKeyExtensions
  let header: PFKeyHeader
  let policy: KeyPolicy
  let owner: Owner

  private var dialect: PFKeyDialect { extensions.dialect }

  func saProtocol() throws(KeyRefusal) -> SAProtocol {
    guard let known = dialect.saProtocol(header.saType) else {
      throw dialect == .linux
        ? .invalid("unknown SA type \(header.saType)") : .unsupported("SA type \(header.saType) is not supported")
    }
    return known
  }

  /// What names the SA in UPDATE, DELETE and GET.
  func identifier() throws(KeyRefusal) -> SAIdentifier {
    guard let sa = extensions.sa(), let destination = extensions.address(.destination) else {
      throw .invalid("SA or destination is missing")
    }
    if let source = extensions.address(.source), source.address.family != destination.address.family {
      throw .invalid("source and destination differ in family")
    }
    return SAIdentifier(spi: sa.spi, destination: destination.address, saProtocol: try saProtocol())
  }

  /// The SA that GETSPI reserves a place for.
  func larval() throws(KeyRefusal) -> (SAParameters, ClosedRange<UInt32>) {
    var parameters = try frame(spi: 0)
    parameters.replayWindow = 0
    var range: (UInt32, UInt32) = (0x100, 0x0fff_ffff)
    if parameters.saProtocol == .ipcomp { range.1 = 0xffff }
    if var cursor = extensions[.spiRange] { range = (cursor.uint32(), cursor.uint32()) }
    return (parameters, try SPIRange.usable(range.0, range.1, parameters.saProtocol, policy))
  }

  /// `isInbound`: it completes an SA that GETSPI reserved. `standing`: what an UPDATE without keys changes.
  func sa(isInbound: Bool, standing: SAParameters?) throws(KeyRefusal) -> SAParameters {
    guard let sa = extensions.sa() else { throw .invalid("extension sa is missing") }
    guard sa.spi != 0 else { throw .invalid("SPI 0") }
    guard dialect == .linux || (sa.state == 1 && sa.replay <= Self.largestWindow) else {
      throw .invalid("only a mature SA with a replay window of at the most \(Self.largestWindow) can be added")
    }
    var parameters = try frame(spi: sa.spi)
    let hasKeys = extensions.has(.encryptionKey) || extensions.has(.authenticationKey)
    if let standing, !hasKeys {
      parameters.transform = standing.transform
      parameters.compression = standing.compression
    } else {
      try readAlgorithms(sa, into: &parameters)
    }
    parameters.replayWindow = UInt32(sa.replay)
    readFlags(sa.flags, into: &parameters)
    try readLifetimes(into: &parameters, standing)
    try readEncapsulation(sa.flags, isInbound: isInbound, into: &parameters)
    parameters.sourceIdentity = extensions.identity(.identitySource)
    parameters.destinationIdentity = extensions.identity(.identityDestination)
    if dialect == .openBSD, extensions.has(.sourceFlow) {
      parameters.selector = try PFKeyFlow(extensions).selector
    }
    return parameters
  }

  private func frame(spi: UInt32) throws(KeyRefusal) -> SAParameters {
    guard let destination = extensions.address(.destination) else { throw .invalid("destination is missing") }
    let family = destination.address.family
    let source = extensions.address(.source)?.address ?? .unspecified(family)
    guard source.family == family else { throw .invalid("source and destination differ in family") }
    for refused: PFKeyExtensionType in [.securityContext, .tag, .tap, .interface] where extensions.has(refused) {
      throw .unsupported("extension \(refused) is not supported")
    }
    if var cursor = extensions[.routingDomain], cursor.uint16() != 0 || cursor.uint16() != 0 {
      throw .invalid("there is only routing domain 0")
    }
    var parameters = SAParameters(
      spi: spi, source: source, destination: destination.address, saProtocol: try saProtocol(),
      mode: dialect == .linux ? .transport : openBSDMode, owner: owner)
    parameters.keySequence = header.sequence
    if var cursor = extensions[.sa2] {
      parameters.mode = try PFKeyMode.mode(cursor.uint8())
      cursor.skip(7)
      parameters.requestID = cursor.uint32()
    }
    return parameters
  }

  private var openBSDMode: SAMode {
    let isTunnel =
      dialect.saProtocol(header.saType) == .ipip || extensions.sa().map { $0.flags & Self.tunnel != 0 } == true
    return isTunnel ? .tunnel : .transport
  }

  private func readAlgorithms(_ sa: PFKeySA, into parameters: inout SAParameters) throws(KeyRefusal) {
    let algorithms = PFKeyAlgorithms(dialect: dialect, policy: policy)
    let (encryptionKey, authenticationKey) = (extensions.key(.encryptionKey), extensions.key(.authenticationKey))
    switch parameters.saProtocol {
    case .ipip: parameters.transform = CryptoTransform(encryption: .null)
    case .ipcomp:
      guard sa.encryption == PFKeyAlgorithms.deflate else {
        throw dialect == .linux ? .noAlgorithm("only deflate is supported") : .invalid("only deflate is supported")
      }
      parameters.compression = .deflate
      parameters.transform = CryptoTransform(encryption: .null)
    case .ah:
      guard let algorithm = try algorithms.authentication(sa.authentication, with: .null) else {
        throw .invalid("AH without an authentication algorithm")
      }
      parameters.transform = CryptoTransform(
        encryption: .null, authentication: algorithm, authenticationKey: authenticationKey)
    case .esp:
      guard sa.encryption != 0 else { throw .invalid("ESP without an encryption algorithm") }
      let encryption = try algorithms.encryption(sa.encryption)
      let authentication = try algorithms.authentication(sa.authentication, with: encryption)
      parameters.transform = CryptoTransform(
        encryption: encryption, encryptionKey: encryption == .null ? SecretBytes([]) : encryptionKey,
        authentication: authentication, authenticationKey: authentication == nil ? SecretBytes([]) : authenticationKey)
    }
    try checkKeys(parameters)
  }

  private func checkKeys(_ parameters: SAParameters) throws(KeyRefusal) {
    let transform = parameters.transform
    guard parameters.saProtocol == .esp || parameters.saProtocol == .ah else { return }
    guard transform.encryption.keyLengths.contains(transform.encryptionKey.count) else {
      throw .invalid("a key of \(transform.encryptionKey.count * 8) bits does not fit \(transform.encryption)")
    }
    if let algorithm = transform.authentication, !algorithm.keyLengths.contains(transform.authenticationKey.count) {
      throw .invalid("a key of \(transform.authenticationKey.count * 8) bits does not fit \(algorithm)")
    }
  }

  private func readFlags(_ flags: UInt32, into parameters: inout SAParameters) {
    if dialect == .linux {
      parameters.ecn = flags & Self.noECN == 0
      parameters.df = flags & Self.noPMTUDiscovery != 0 ? .clear : .copy
    } else {
      parameters.extendedSequenceNumbers = flags & Self.esn != 0
    }
  }

  private func readLifetimes(into parameters: inout SAParameters, _ standing: SAParameters?) throws(KeyRefusal) {
    let (soft, hard) = (extensions.lifetime(.lifetimeSoft), extensions.lifetime(.lifetimeHard))
    guard dialect == .openBSD || (soft == nil) == (hard == nil) else {
      throw .invalid("soft and hard lifetimes come together or not at all")
    }
    parameters.soft = soft ?? standing?.soft ?? .unlimited
    parameters.hard = hard ?? standing?.hard ?? .unlimited
  }

  private func readEncapsulation(
    _ flags: UInt32, isInbound: Bool, into parameters: inout SAParameters
  ) throws(KeyRefusal) {
    if var cursor = extensions[.natType], cursor.uint8() != 0 {
      guard parameters.saProtocol == .esp, extensions[.natType]?.bytes.first == Self.espInUDP else {
        throw .invalid("unsupported type of UDP encapsulation")
      }
      parameters.encapsulation = UDPEncapsulation(
        sourcePort: extensions.port(.natSourcePort) ?? Self.natPort,
        destinationPort: extensions.port(.natDestinationPort) ?? Self.natPort)
    }
    guard dialect == .openBSD, flags & Self.udpEncapsulation != 0 || extensions.has(.udpEncapsulation) else { return }
    guard parameters.saProtocol == .esp else { throw .invalid("UDP encapsulation is for ESP") }
    let given = extensions.port(.udpEncapsulation) ?? 0
    let port = given == 0 ? Self.natPort : given
    // The one port is the peer's.
    parameters.encapsulation = UDPEncapsulation(
      sourcePort: isInbound ? port : Self.natPort, destinationPort: isInbound ? Self.natPort : port)
  }
}

/// IPSEC_MODE_… of Linux.
enum PFKeyMode {
  static func mode(_ number: UInt8) throws(KeyRefusal) -> SAMode {
    switch number {
    case 0, 1: return .transport
    case 2: return .tunnel
    case 3: throw KeyRefusal(EOPNOTSUPP, "mode beet is not supported")
    default: throw .invalid("unknown mode \(number)")
    }
  }

  static func number(_ mode: SAMode) -> UInt8 { mode == .tunnel ? 2 : 1 }
}
