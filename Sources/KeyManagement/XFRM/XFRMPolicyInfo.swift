/// `struct xfrm_userpolicy_info`, 168 bytes.
struct XFRMPolicyInfo: Equatable, Sendable {
  static let length = 168
  static let allow: UInt8 = 0
  static let block: UInt8 = 1
  /// XFRM_POLICY_ICMP and XFRM_POLICY_CPU_ACQUIRE.
  static let matchICMP: UInt8 = 2
  static let acquireByCPU: UInt8 = 4

  var selector = XFRMSelector()
  var limits = XFRMLimits()
  var usage = XFRMUsage()
  var priority: UInt32 = 0
  var index: UInt32 = 0
  var direction: UInt8 = 0
  var action: UInt8 = 0
  var flags: UInt8 = 0
  var share: UInt8 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    selector = XFRMSelector(from: &cursor)
    limits = XFRMLimits(from: &cursor)
    usage = XFRMUsage(from: &cursor)
    priority = cursor.uint32()
    index = cursor.uint32()
    direction = cursor.uint8()
    action = cursor.uint8()
    flags = cursor.uint8()
    share = cursor.uint8()
    cursor.skip(4)
  }

  func encode(into builder: inout ByteBuilder) {
    selector.encode(into: &builder)
    limits.encode(into: &builder)
    usage.encode(into: &builder)
    builder.append(priority)
    builder.append(index)
    builder.append(direction)
    builder.append(action)
    builder.append(flags)
    builder.append(share)
    builder.zeros(4)
  }
}

/// `struct xfrm_userpolicy_id`, 64 bytes.
struct XFRMPolicyID: Equatable, Sendable {
  static let length = 64

  var selector = XFRMSelector()
  var index: UInt32 = 0
  var direction: UInt8 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    selector = XFRMSelector(from: &cursor)
    index = cursor.uint32()
    direction = cursor.uint8()
    cursor.skip(3)
  }

  func encode(into builder: inout ByteBuilder) {
    selector.encode(into: &builder)
    builder.append(index)
    builder.append(direction)
    builder.zeros(3)
  }
}

/// `struct xfrm_user_tmpl`, 64 bytes: one SA that a policy asks for.
struct XFRMTemplate: Equatable, Sendable {
  static let length = 64

  var destination = XFRMAddress()
  var spi: UInt32 = 0
  var ipProtocol: UInt8 = 0
  var family: UInt16 = 0
  var source = XFRMAddress()
  var requestID: UInt32 = 0
  var mode: UInt8 = 0
  var share: UInt8 = 0
  var optional: UInt8 = 0
  /// Which algorithms may be negotiated; all, as every daemon asks for.
  var authenticationAlgorithms = UInt32.max
  var encryptionAlgorithms = UInt32.max
  var compressionAlgorithms = UInt32.max

  init() {}

  init(from cursor: inout ByteCursor) {
    destination = XFRMAddress(from: &cursor)
    spi = cursor.bigUInt32()
    ipProtocol = cursor.uint8()
    cursor.skip(3)
    family = cursor.uint16()
    cursor.skip(2)
    source = XFRMAddress(from: &cursor)
    requestID = cursor.uint32()
    mode = cursor.uint8()
    share = cursor.uint8()
    optional = cursor.uint8()
    cursor.skip(1)
    authenticationAlgorithms = cursor.uint32()
    encryptionAlgorithms = cursor.uint32()
    compressionAlgorithms = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    destination.encode(into: &builder)
    builder.appendBig(spi)
    builder.append(ipProtocol)
    builder.zeros(3)
    builder.append(family)
    builder.zeros(2)
    source.encode(into: &builder)
    builder.append(requestID)
    builder.append(mode)
    builder.append(share)
    builder.append(optional)
    builder.zeros(1)
    builder.append(authenticationAlgorithms)
    builder.append(encryptionAlgorithms)
    builder.append(compressionAlgorithms)
  }
}
