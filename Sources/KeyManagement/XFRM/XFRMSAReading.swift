import Engines
import Glibc
import IPsec
import Wire

/// XFRM's SA messages as the database's values, checked in the order and with the answers of the kernel.
struct XFRMSAReading {
  private static let udpEncapsulation: UInt16 = 2
  private static let packetOffload: UInt8 = 4

  let info: XFRMSAInfo
  let attributes: XFRMAttributes
  let policy: KeyPolicy
  let owner: Owner

  /// NEWSA and UPDSA.
  func sa() throws(KeyRefusal) -> (SAParameters, XFRMSARemnant) {
    var (parameters, remnant) = try frame()
    guard info.spi != 0 else { throw .invalid("SPI must not be 0") }
    parameters.transform = try transform(parameters.saProtocol)
    if parameters.saProtocol == .ipcomp { parameters.compression = try compression() }
    parameters.encapsulation = try encapsulation(parameters.saProtocol, &remnant)
    try readReplay(into: &parameters, &remnant)
    try readExtras(into: &parameters, &remnant)
    parameters.soft = info.limits.soft
    parameters.hard = info.limits.hard
    return (parameters, remnant)
  }

  /// ALLOCSPI: everything but what a larval SA has not yet.
  func larval() throws(KeyRefusal) -> (SAParameters, XFRMSARemnant) {
    var (parameters, remnant) = try frame()
    parameters.replayWindow = 0
    try readExtras(into: &parameters, &remnant)
    // As the kernel has it, whatever the request says.
    parameters.hard.addTime = SecurityDatabase.larvalLifetime
    remnant.flags = []
    remnant.selector = XFRMSelector(
      Selector(source: IPPrefix(parameters.source), destination: IPPrefix(parameters.destination)))
    return (parameters, remnant)
  }

  /// Addresses, protocol, mode, selector, flags.
  private func frame() throws(KeyRefusal) -> (SAParameters, XFRMSARemnant) {
    let family = try AddressFamily(xfrm: info.family)
    guard let saProtocol = SAProtocol(rawValue: info.ipProtocol), saProtocol != .ipip else {
      throw .invalid("Unsupported protocol \(info.ipProtocol), must be one of AH, ESP, COMP")
    }
    let mode = try XFRMMode.mode(info.mode)
    var parameters = SAParameters(
      spi: info.spi, source: info.source.address(family), destination: info.destination.address(family),
      saProtocol: saProtocol, mode: mode, owner: owner)
    parameters.requestID = info.requestID
    parameters.keySequence = info.sequence
    var remnant = XFRMSARemnant()
    remnant.flags = info.flags
    remnant.selector = info.selector
    if info.selector.family == 0, !info.flags.contains(.anyFamily) { remnant.selector.family = info.family }
    let selector = try remnant.selector.selector(default: info.family)
    parameters.selector = info.selector.isAny ? nil : selector
    parameters.ecn = !info.flags.contains(.noECN)
    parameters.df = info.flags.contains(.noPMTUDiscovery) ? .clear : .copy
    parameters.alignsAHTo64Bits = saProtocol == .ah && !info.flags.contains(.align4)
    return (parameters, remnant)
  }

  private func transform(_ saProtocol: SAProtocol) throws(KeyRefusal) -> CryptoTransform {
    let keyed: [XFRMAttributeType] = [.aead, .encryption, .authentication, .authenticationTruncated]
    switch saProtocol {
    case .ah:
      guard !attributes.has(.aead), !attributes.has(.encryption), !attributes.has(.compression),
        !attributes.has(.tfcPadding)
      else { throw .invalid("Invalid attributes for AH: AEAD, CRYPT, COMP, TFCPAD") }
      guard let (algorithm, key) = try authentication() else { throw .invalid("Missing required attribute for AH") }
      return CryptoTransform(encryption: .null, authentication: algorithm, authenticationKey: key)
    case .esp:
      guard !attributes.has(.compression) else { throw .invalid("Invalid attribute for ESP: COMP") }
      return try espTransform()
    case .ipcomp, .ipip:
      guard !keyed.contains(where: attributes.has), !attributes.has(.tfcPadding) else {
        throw .invalid("Invalid attributes for COMP: AEAD, AUTH, AUTH_TRUNC, CRYPT, TFCPAD")
      }
      return CryptoTransform(encryption: .null)
    }
  }

  private func espTransform() throws(KeyRefusal) -> CryptoTransform {
    if let cursor = attributes[.aead] {
      guard !attributes.has(.encryption), !attributes.has(.authentication), !attributes.has(.authenticationTruncated)
      else {
        throw .invalid("Invalid combination of attributes for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT")
      }
      let given = try XFRMAlgorithm(from: cursor, shape: .withICV)
      let algorithm = try XFRMAlgorithmName.aead(given)
      try XFRMAlgorithmName.checkKey(given.key, lengths: algorithm.keyLengths, of: given.name)
      return CryptoTransform(encryption: algorithm, encryptionKey: given.key)
    }
    guard let cursor = attributes[.encryption] else {
      throw .invalid("Missing required attribute for ESP: at least one of AEAD, CRYPT")
    }
    let given = try XFRMAlgorithm(from: cursor, shape: .plain)
    let algorithm = try XFRMAlgorithmName.encryption(given)
    try XFRMAlgorithmName.checkKey(given.key, lengths: algorithm.keyLengths, of: given.name)
    let integrity = try authentication()
    return CryptoTransform(
      encryption: algorithm, encryptionKey: given.key, authentication: integrity?.0,
      authenticationKey: integrity?.1 ?? SecretBytes([]))
  }

  /// ALG_AUTH_TRUNC before ALG_AUTH, as the kernel prefers.
  private func authentication() throws(KeyRefusal) -> (AuthenticationAlgorithm, SecretBytes)? {
    let given: XFRMAlgorithm
    let truncated = attributes.has(.authenticationTruncated)
    if let cursor = attributes[.authenticationTruncated] {
      given = try XFRMAlgorithm(from: cursor, shape: .withICV)
    } else if let cursor = attributes[.authentication] {
      given = try XFRMAlgorithm(from: cursor, shape: .plain)
    } else {
      return nil
    }
    if given.name == "digest_null" { return nil }
    let algorithm = try XFRMAlgorithmName.authentication(given, truncated: truncated, policy: policy)
    try XFRMAlgorithmName.checkKey(given.key, lengths: algorithm.keyLengths, of: given.name)
    return (algorithm, given.key)
  }

  private func compression() throws(KeyRefusal) -> CompressionAlgorithm {
    guard let cursor = attributes[.compression] else { throw .invalid("Missing required attribute for COMP: COMP") }
    guard info.spi < 0x10000 else { throw .invalid("SPI is too large for COMP: must be < 0x10000") }
    let given = try XFRMAlgorithm(from: cursor, shape: .plain)
    guard given.name == "deflate" else {
      throw .noAlgorithm("Compression algorithm \(given.name) is not supported")
    }
    return .deflate
  }

  private func encapsulation(
    _ saProtocol: SAProtocol, _ remnant: inout XFRMSARemnant
  ) throws(KeyRefusal) -> UDPEncapsulation? {
    guard var cursor = attributes[.encapsulation] else { return nil }
    guard saProtocol == .esp else { throw .invalid("Encapsulation is only for ESP") }
    guard cursor.uint16() == Self.udpEncapsulation else { throw .invalid("Unsupported encapsulation type for ESP") }
    let ports = UDPEncapsulation(sourcePort: cursor.bigUInt16(), destinationPort: cursor.bigUInt16())
    cursor.skip(2)
    remnant.originalAddress = XFRMAddress(from: &cursor)
    return ports
  }

  private func readReplay(into parameters: inout SAParameters, _ remnant: inout XFRMSARemnant) throws(KeyRefusal) {
    parameters.extendedSequenceNumbers = info.flags.contains(.esn)
    parameters.replayWindow = UInt32(info.replayWindow)
    guard var cursor = attributes[.replayESNValue] else {
      guard !parameters.extendedSequenceNumbers else {
        throw .invalid("Missing required attribute for ESN: REPLAY_ESN_VAL")
      }
      if var replay = attributes[.replayValue] {
        parameters.sequence = UInt64(replay.uint32())
        parameters.replayHighest = UInt64(replay.uint32())
      }
      return
    }
    let replay = XFRMReplayESN(from: &cursor)
    guard replay.bitmapWords <= XFRMReplayESN.maximumWords else {
      throw .invalid("ESN bitmap length must be <= \(XFRMReplayESN.maximumWords)")
    }
    guard replay.bitmap.isEmpty || replay.bitmap.count >= Int(replay.bitmapWords) else {
      throw .invalid("ESN attribute is too short to fit the full bitmap length")
    }
    guard parameters.saProtocol != .ipcomp else { throw .invalid("ESN only supported for ESP and AH") }
    guard info.replayWindow == 0 else { throw .invalid("ESN not compatible with legacy replay_window") }
    guard replay.window <= replay.bitmapWords * 32 else { throw .invalid("ESN replay window is too large") }
    guard replay.window > 0 || !parameters.extendedSequenceNumbers || attributes.uint8(.direction) == 2 else {
      throw .invalid("ESN replay window must be > 0")
    }
    parameters.replayWindow = replay.window
    parameters.sequence = replay.outbound
    parameters.replayHighest = replay.inbound
    remnant.hasReplayESN = true
  }

  private func readExtras(into parameters: inout SAParameters, _ remnant: inout XFRMSARemnant) throws(KeyRefusal) {
    try refuseUnsupported()
    try checkDirection()
    if var cursor = attributes[.offloadDevice] {
      cursor.skip(4)
      // Crypto offload falls back to software, as it does in the kernel for a device that has none.
      guard cursor.uint8() & Self.packetOffload == 0 else { throw .invalid("Packet offload is not supported") }
    }
    if let padding = attributes.uint32(.tfcPadding) {
      guard parameters.mode == .tunnel else { throw .invalid("TFC padding can only be used in tunnel mode") }
      parameters.tfcPadding = padding
    }
    if let flags = attributes.uint32(.extraFlags) {
      guard flags & ~XFRMSARemnant.knownExtraFlags == 0 else { throw .unsupported("Unknown extra flags") }
      remnant.extraFlags = flags
      if flags & XFRMSARemnant.noDSCP != 0 { parameters.dscp = 0 }
    }
    parameters.mark = attributes.mark
    parameters.interfaceID = attributes.uint32(.interfaceID) ?? 0
    if let direction = attributes.uint8(.direction) {
      remnant.direction = direction
      parameters.direction = direction == 1 ? .in : .out
    }
    if let seconds = attributes.uint32(.mappingThreshold) {
      guard attributes.has(.encapsulation), remnant.direction != 2 else {
        throw .invalid("MTIMER_THRESH attribute can only be set on input states with encapsulation")
      }
      remnant.mappingThreshold = seconds
    }
    remnant.cpu = attributes.uint32(.cpu)
  }
}

extension XFRMAttributes {
  /// XFRMA_MARK; nil where there is none or its mask is 0, which is the same to every match.
  var mark: Mark? {
    guard var cursor = self[.mark] else { return nil }
    let mark = Mark(value: cursor.uint32(), mask: cursor.uint32())
    return mark.mask == 0 && mark.value == 0 ? nil : mark
  }
}

/// XFRM's numbers of the modes.
enum XFRMMode {
  static func mode(_ number: UInt8) throws(KeyRefusal) -> SAMode {
    switch number {
    case 0: return .transport
    case 1: return .tunnel
    case 2...4: throw KeyRefusal(EPROTONOSUPPORT, "Requested mode not found")
    case 5: throw KeyRefusal(EPROTONOSUPPORT, "IP-TFS (RFC 9347) is not supported")
    default: throw .invalid("Unsupported mode \(number)")
    }
  }
}
