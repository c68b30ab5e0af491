/// Whether an extension is as long as its type says and its inner lengths agree: after it, reading cannot overrun.
enum PFKeyShape {
  /// `payload` is without length and type.
  static func check(
    _ type: PFKeyExtensionType, _ payload: UnsafeRawBufferPointer, _ dialect: PFKeyDialect
  ) throws(KeyRefusal) {
    if let length = exactLength(type) {
      guard payload.count == length else { throw .invalid("extension \(type) has a wrong length") }
    }
    switch type {
    case .sa, .secondSA: try checkSA(payload)
    case .source, .destination, .proxy, .sourceMask, .destinationMask, .sourceFlow, .destinationFlow,
      .secondDestination, .natOriginalAddress:
      try checkAddress(type, payload, dialect)
    case .authenticationKey, .encryptionKey: try checkKey(type, payload, dialect)
    case .identitySource, .identityDestination: try checkIdentity(type, payload, dialect)
    case .policy:
      guard payload.count >= 12 else { throw .invalid("extension policy is too short") }
    default: break
    }
  }

  private static func exactLength(_ type: PFKeyExtensionType) -> Int? {
    switch type {
    case .sa, .secondSA, .spiRange, .sa2: 12
    case .lifetimeCurrent, .lifetimeHard, .lifetimeSoft, .lastUse: 28
    case .flowProtocol, .flowType, .secondSAType, .askedPolicy, .udpEncapsulation, .natType, .natSourcePort,
      .natDestinationPort, .routingDomain, .tap, .mtu:
      4
    case .replay: 12
    case .counter: 68
    case .interface: 12
    case .filter: 36
    default: nil
    }
  }

  private static func checkSA(_ payload: UnsafeRawBufferPointer) throws(KeyRefusal) {
    let sa = PFKeySA(from: ByteCursor(payload))
    guard sa.state <= 3 else { throw .invalid("unknown SA state \(sa.state)") }
    guard sa.state != 3 else { throw .invalid("an SA cannot be made dead") }
  }

  private static func checkAddress(
    _ type: PFKeyExtensionType, _ payload: UnsafeRawBufferPointer, _ dialect: PFKeyDialect
  ) throws(KeyRefusal) {
    guard let address = PFKeyAddress(from: ByteCursor(payload), dialect: dialect) else {
      throw .invalid("extension \(type) has no IPv4 or IPv6 address")
    }
    let isV4 = address.address.family == .v4
    // The header's 4 bytes and the socket address, padded to 8.
    guard payload.count == (isV4 ? 20 : 36) else { throw .invalid("extension \(type) has a wrong length") }
    guard dialect == .linux || payload[4] == (isV4 ? 16 : 28) else {
      throw .invalid("the socket address in \(type) has a wrong length")
    }
    guard dialect == .openBSD || address.prefixLength <= address.address.family.bits else {
      throw .invalid("the prefix in \(type) is too long")
    }
  }

  private static func checkKey(
    _ type: PFKeyExtensionType, _ payload: UnsafeRawBufferPointer, _ dialect: PFKeyDialect
  ) throws(KeyRefusal) {
    var cursor = ByteCursor(payload)
    let bits = Int(cursor.uint16())
    // Linux takes no bits for the null algorithms; for others they do not fit.
    guard bits > 0 || dialect == .linux, payload.count == 4 + (bits + 63) / 64 * 8 else {
      throw .invalid("extension \(type) does not have the length of its \(bits) bits")
    }
  }

  private static func checkIdentity(
    _ type: PFKeyExtensionType, _ payload: UnsafeRawBufferPointer, _ dialect: PFKeyDialect
  ) throws(KeyRefusal) {
    guard payload.count >= 12 else { throw .invalid("extension \(type) is too short") }
    var cursor = ByteCursor(payload)
    guard cursor.uint16() <= (dialect == .linux ? 3 : 4) else { throw .invalid("unknown type of identity in \(type)") }
    guard payload.count == 12 || payload.last == 0 else { throw .invalid("the identity in \(type) has no end") }
  }
}
