import Engines
import IPsec
import Wire

/// An SA as PF_KEY's messages show it. Extensions come in the order of their numbers.
struct PFKeySAWriting {
  let record: SARecord
  let dialect: PFKeyDialect
  let policy: KeyPolicy

  private var parameters: SAParameters { record.parameters }
  private var algorithms: PFKeyAlgorithms { PFKeyAlgorithms(dialect: dialect, policy: policy) }

  var sa: PFKeySA {
    var sa = PFKeySA()
    sa.spi = parameters.spi
    sa.state = record.state.rawValue
    sa.replay = UInt8(clamping: parameters.replayWindow)
    if record.state != .larval { (sa.authentication, sa.encryption) = algorithms.numbers(parameters) }
    if dialect == .openBSD {
      if parameters.mode == .tunnel { sa.flags |= PFKeySAReading.tunnel }
      if parameters.encapsulation != nil { sa.flags |= PFKeySAReading.udpEncapsulation }
      if parameters.extendedSequenceNumbers { sa.flags |= PFKeySAReading.esn }
    } else {
      if !parameters.ecn { sa.flags |= 0x8000_0000 }
      if parameters.df == .clear { sa.flags |= 0x2000_0000 }
    }
    return sa
  }

  func appendSA(to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.sa) { sa.encode(into: &$0) }
  }

  func appendAddresses(to builder: inout ByteBuilder) {
    let bits = parameters.destination.family.bits
    for (type, address) in [(PFKeyExtensionType.source, parameters.source), (.destination, parameters.destination)] {
      builder.pfkeyExtension(type) {
        PFKeyAddress(address, prefixLength: bits).encode(into: &$0, dialect: dialect)
      }
    }
  }

  func appendLifetime(_ type: PFKeyExtensionType, to builder: inout ByteBuilder) {
    let usage = record.usage
    switch type {
    case .lifetimeSoft: append(type, parameters.soft, to: &builder)
    case .lifetimeHard: append(type, parameters.hard, to: &builder)
    case .lastUse: append(type, Lifetime(useTime: usage.lastUsed), to: &builder)
    default:
      // RFC 2367 counts connections here; like Linux and OpenBSD this gateway counts none for "current".
      let current = Lifetime(
        packets: dialect == .linux ? usage.packets : 0, bytes: usage.bytes, addTime: usage.added,
        useTime: usage.firstUsed)
      append(type, current, to: &builder)
    }
  }

  private func append(_ type: PFKeyExtensionType, _ lifetime: Lifetime, to builder: inout ByteBuilder) {
    builder.pfkeyExtension(type) { builder in
      builder.append(UInt32(clamping: lifetime.packets))
      builder.append(lifetime.bytes)
      builder.append(lifetime.addTime)
      builder.append(lifetime.useTime)
    }
  }

  /// The answer to ADD and UPDATE, and what others hear of them: all but the keys (RFC 2367 3.1.2, 3.1.3).
  func appendDescription(to builder: inout ByteBuilder) {
    appendSA(to: &builder)
    if dialect == .linux { appendLifetime(.lifetimeCurrent, to: &builder) }
    appendLimits(to: &builder)
    appendAddresses(to: &builder)
    appendIdentities(to: &builder)
    appendOwn(to: &builder)
  }

  /// The answer to GET and DUMP, keys and counters among it.
  func appendEverything(to builder: inout ByteBuilder) {
    appendSA(to: &builder)
    appendLifetime(.lifetimeCurrent, to: &builder)
    appendLimits(to: &builder)
    appendAddresses(to: &builder)
    if record.state != .larval {
      append(.authenticationKey, parameters.transform.authenticationKey, to: &builder)
      append(.encryptionKey, parameters.transform.encryptionKey, to: &builder)
    }
    appendIdentities(to: &builder)
    appendOwn(to: &builder)
    guard dialect == .openBSD else { return }
    appendLifetime(.lastUse, to: &builder)
    appendCounters(to: &builder)
    if record.mtu != 0 { builder.pfkeyExtension(.mtu) { $0.append(record.mtu) } }
    builder.pfkeyExtension(.replay) { builder in
      builder.zeros(4)
      builder.append(record.sequence)
    }
  }

  private func appendLimits(to builder: inout ByteBuilder) {
    guard dialect == .linux || parameters.hard != .unlimited || parameters.soft != .unlimited else { return }
    appendLifetime(.lifetimeHard, to: &builder)
    appendLifetime(.lifetimeSoft, to: &builder)
  }

  private func append(_ type: PFKeyExtensionType, _ key: SecretBytes, to builder: inout ByteBuilder) {
    guard key.count > 0 else { return }
    builder.pfkeyExtension(type) { builder in
      builder.append(UInt16(key.count * 8))
      builder.zeros(2)
      builder.append(bytes: key.bytes)
    }
  }

  private func appendIdentities(to builder: inout ByteBuilder) {
    builder.appendIdentity(.identitySource, parameters.sourceIdentity)
    builder.appendIdentity(.identityDestination, parameters.destinationIdentity)
  }

  /// What RFC 2367 does not have.
  private func appendOwn(to builder: inout ByteBuilder) {
    if dialect == .linux {
      appendSA2(to: &builder)
      guard let ports = parameters.encapsulation else { return }
      builder.pfkeyExtension(.natType) { $0.append(UInt8(2)) }
      builder.pfkeyExtension(.natSourcePort) { $0.appendBig(ports.sourcePort) }
      builder.pfkeyExtension(.natDestinationPort) { $0.appendBig(ports.destinationPort) }
      return
    }
    if let selector = parameters.selector {
      PFKeyFlow(selector: selector, type: .use, direction: parameters.direction ?? .out).append(to: &builder)
    }
    guard let ports = parameters.encapsulation else { return }
    let peer = parameters.direction == .in ? ports.sourcePort : ports.destinationPort
    builder.pfkeyExtension(.udpEncapsulation) { $0.appendBig(peer) }
  }

  func appendSA2(to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.sa2) { builder in
      builder.append(PFKeyMode.number(parameters.mode))
      builder.zeros(3)
      builder.append(UInt32(0))
      builder.append(parameters.requestID)
    }
  }

  private func appendCounters(to builder: inout ByteBuilder) {
    let counters = record.counters
    builder.pfkeyExtension(.counter) { builder in
      builder.zeros(4)
      for value in [
        counters.inputPackets, counters.outputPackets, counters.inputBytes, counters.outputBytes, counters.inputDrops,
        counters.outputDrops, counters.decompressedBytes, counters.uncompressedBytes,
      ] {
        builder.append(value)
      }
    }
  }
}

extension ByteBuilder {
  /// `struct sadb_ident`: the text with its NUL, padded to 8.
  mutating func appendIdentity(_ type: PFKeyExtensionType, _ identity: Identity?) {
    guard let identity else { return }
    pfkeyExtension(type) { builder in
      builder.append(identity.kind.rawValue)
      builder.zeros(10)
      builder.append(bytes: identity.text.utf8)
      builder.append(UInt8(0))
    }
  }
}
