import Engines
import IPsec
import Wire

/// An SA as XFRM's messages show it.
struct XFRMSAWriting {
  let record: SARecord
  let remnant: XFRMSARemnant

  var parameters: SAParameters { record.parameters }
  private var family: UInt16 { UInt16(parameters.destination.family.rawValue) }

  /// Where nobody says, by which counters move.
  var isOutbound: Bool {
    if let direction = parameters.direction { return direction == .out }
    return record.isInbound.map { !$0 } ?? (record.counters.outputPackets > 0)
  }

  var info: XFRMSAInfo {
    var info = XFRMSAInfo()
    info.selector = remnant.selector
    info.destination = XFRMAddress(parameters.destination)
    info.spi = parameters.spi
    info.ipProtocol = parameters.saProtocol.rawValue
    info.source = XFRMAddress(parameters.source)
    info.limits = XFRMLimits(soft: parameters.soft, hard: parameters.hard)
    info.usage = XFRMUsage(sa: record.usage)
    info.replayDrops = UInt32(clamping: record.counters.replayed)
    info.integrityDrops = UInt32(clamping: record.counters.integrityFailures)
    info.sequence = parameters.keySequence
    info.requestID = parameters.requestID
    info.family = family
    info.mode = parameters.mode.rawValue
    info.replayWindow = remnant.hasReplayESN ? 0 : UInt8(clamping: min(parameters.replayWindow, 32))
    info.flags = remnant.flags
    return info
  }

  var id: XFRMSAID {
    var id = XFRMSAID()
    id.destination = XFRMAddress(parameters.destination)
    id.spi = parameters.spi
    id.family = family
    id.ipProtocol = parameters.saProtocol.rawValue
    return id
  }

  /// The attributes that the kernel gives for an SA, keys among them.
  func appendAttributes(to builder: inout ByteBuilder) {
    if record.usage.lastUsed != 0 { builder.attribute(.lastUsed) { $0.append(record.usage.lastUsed) } }
    if record.state != .larval { appendAlgorithms(to: &builder) }
    if let encapsulation = parameters.encapsulation {
      builder.attribute(.encapsulation) { builder in
        builder.append(UInt16(2))
        builder.appendBig(encapsulation.sourcePort)
        builder.appendBig(encapsulation.destinationPort)
        builder.zeros(2)
        remnant.originalAddress.encode(into: &builder)
      }
    }
    if parameters.tfcPadding != 0 { builder.attribute(.tfcPadding) { $0.append(parameters.tfcPadding) } }
    builder.appendMark(parameters.mark)
    appendReplay(to: &builder)
    if remnant.extraFlags != 0 { builder.attribute(.extraFlags) { $0.append(remnant.extraFlags) } }
    builder.appendInterfaceID(parameters.interfaceID)
    if let seconds = remnant.mappingThreshold { builder.attribute(.mappingThreshold) { $0.append(seconds) } }
    if let direction = remnant.direction { builder.attribute(.direction) { $0.append(direction) } }
    if let cpu = remnant.cpu { builder.attribute(.cpu) { $0.append(cpu) } }
  }

  private func appendAlgorithms(to builder: inout ByteBuilder) {
    let transform = parameters.transform
    if parameters.saProtocol == .ipcomp {
      builder.attribute(.compression) { XFRMAlgorithm("deflate").encode(into: &$0, shape: .plain) }
      return
    }
    if transform.encryption.isAEAD {
      let algorithm = XFRMAlgorithm(
        XFRMAlgorithmName.name(transform.encryption), key: transform.encryptionKey,
        icvBits: UInt32(transform.encryption.icvLength * 8))
      builder.attribute(.aead) { algorithm.encode(into: &$0, shape: .withICV) }
      return
    }
    if let authentication = transform.authentication {
      let algorithm = XFRMAlgorithm(
        XFRMAlgorithmName.name(authentication), key: transform.authenticationKey,
        icvBits: UInt32(authentication.icvLength * 8))
      builder.attribute(.authentication) { algorithm.encode(into: &$0, shape: .plain) }
      builder.attribute(.authenticationTruncated) { algorithm.encode(into: &$0, shape: .withICV) }
    }
    if parameters.saProtocol == .esp {
      let algorithm = XFRMAlgorithm(XFRMAlgorithmName.name(transform.encryption), key: transform.encryptionKey)
      builder.attribute(.encryption) { algorithm.encode(into: &$0, shape: .plain) }
    }
  }

  /// REPLAY_ESN_VAL or REPLAY_VAL, whichever the SA was made with.
  func appendReplay(to builder: inout ByteBuilder) {
    guard parameters.saProtocol != .ipcomp else { return }
    if remnant.hasReplayESN {
      let replay = XFRMReplayESN(record, window: parameters.replayWindow, isOutbound: isOutbound)
      builder.attribute(.replayESNValue) { replay.encode(into: &$0) }
      return
    }
    let sequence = UInt32(truncatingIfNeeded: record.sequence)
    builder.attribute(.replayValue) { builder in
      builder.append(isOutbound ? sequence : UInt32(truncatingIfNeeded: parameters.sequence))
      builder.append(isOutbound ? UInt32(truncatingIfNeeded: parameters.replayHighest) : sequence)
      builder.append(isOutbound ? 0 : UInt32(truncatingIfNeeded: record.replayBitmap))
    }
  }
}

extension ByteBuilder {
  mutating func appendMark(_ mark: Mark?) {
    guard let mark else { return }
    attribute(.mark) { builder in
      builder.append(mark.value)
      builder.append(mark.mask)
    }
  }

  mutating func appendInterfaceID(_ id: UInt32) {
    if id != 0 { attribute(.interfaceID) { $0.append(id) } }
  }
}
