/// `struct xfrm_usersa_info`, 224 bytes.
struct XFRMSAInfo: Equatable, Sendable {
  static let length = 224

  struct Flags: OptionSet, Sendable {
    let rawValue: UInt8
    static let noECN = Flags(rawValue: 1)
    static let decapsulateDSCP = Flags(rawValue: 2)
    static let noPMTUDiscovery = Flags(rawValue: 4)
    static let wildcard = Flags(rawValue: 8)
    static let icmp = Flags(rawValue: 16)
    static let anyFamily = Flags(rawValue: 32)
    static let align4 = Flags(rawValue: 64)
    static let esn = Flags(rawValue: 128)
  }

  var selector = XFRMSelector()
  var destination = XFRMAddress()
  var spi: UInt32 = 0
  var ipProtocol: UInt8 = 0
  var source = XFRMAddress()
  var limits = XFRMLimits()
  var usage = XFRMUsage()
  /// Packets dropped: outside the window, replayed, with a bad ICV.
  var windowDrops: UInt32 = 0
  var replayDrops: UInt32 = 0
  var integrityDrops: UInt32 = 0
  var sequence: UInt32 = 0
  var requestID: UInt32 = 0
  var family: UInt16 = 0
  var mode: UInt8 = 0
  var replayWindow: UInt8 = 0
  var flags: Flags = []

  init() {}

  init(from cursor: inout ByteCursor) {
    selector = XFRMSelector(from: &cursor)
    destination = XFRMAddress(from: &cursor)
    spi = cursor.bigUInt32()
    ipProtocol = cursor.uint8()
    cursor.skip(3)
    source = XFRMAddress(from: &cursor)
    limits = XFRMLimits(from: &cursor)
    usage = XFRMUsage(from: &cursor)
    windowDrops = cursor.uint32()
    replayDrops = cursor.uint32()
    integrityDrops = cursor.uint32()
    sequence = cursor.uint32()
    requestID = cursor.uint32()
    family = cursor.uint16()
    mode = cursor.uint8()
    replayWindow = cursor.uint8()
    flags = Flags(rawValue: cursor.uint8())
    cursor.skip(7)
  }

  func encode(into builder: inout ByteBuilder) {
    selector.encode(into: &builder)
    destination.encode(into: &builder)
    builder.appendBig(spi)
    builder.append(ipProtocol)
    builder.zeros(3)
    source.encode(into: &builder)
    limits.encode(into: &builder)
    usage.encode(into: &builder)
    builder.append(windowDrops)
    builder.append(replayDrops)
    builder.append(integrityDrops)
    builder.append(sequence)
    builder.append(requestID)
    builder.append(family)
    builder.append(mode)
    builder.append(replayWindow)
    builder.append(flags.rawValue)
    builder.zeros(7)
  }
}

/// `struct xfrm_usersa_id`, 24 bytes.
struct XFRMSAID: Equatable, Sendable {
  static let length = 24

  var destination = XFRMAddress()
  var spi: UInt32 = 0
  var family: UInt16 = 0
  var ipProtocol: UInt8 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    destination = XFRMAddress(from: &cursor)
    spi = cursor.bigUInt32()
    family = cursor.uint16()
    ipProtocol = cursor.uint8()
    cursor.skip(1)
  }

  func encode(into builder: inout ByteBuilder) {
    destination.encode(into: &builder)
    builder.appendBig(spi)
    builder.append(family)
    builder.append(ipProtocol)
    builder.zeros(1)
  }
}

/// `struct xfrm_aevent_id`, 48 bytes.
struct XFRMAEventID: Equatable, Sendable {
  static let length = 48

  struct Flags: OptionSet, Sendable {
    let rawValue: UInt32
    static let replayThreshold = Flags(rawValue: 1)
    static let replayValue = Flags(rawValue: 2)
    static let lifetimeValue = Flags(rawValue: 4)
    static let timerThreshold = Flags(rawValue: 8)
    static let updated = Flags(rawValue: 64)
  }

  var sa = XFRMSAID()
  var source = XFRMAddress()
  var flags: Flags = []
  var requestID: UInt32 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    sa = XFRMSAID(from: &cursor)
    source = XFRMAddress(from: &cursor)
    flags = Flags(rawValue: cursor.uint32())
    requestID = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    sa.encode(into: &builder)
    source.encode(into: &builder)
    builder.append(flags.rawValue)
    builder.append(requestID)
  }
}
