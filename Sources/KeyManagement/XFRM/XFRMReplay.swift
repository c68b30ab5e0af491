import IPsec

/// `struct xfrm_replay_state_esn`: 24 bytes and a bitmap of `bitmapWords` words.
struct XFRMReplayESN: Equatable, Sendable {
  static let length = 24
  /// Words of the largest window taken: XFRMA_REPLAY_ESN_MAX bits.
  static let maximumWords: UInt32 = 4096 / 32

  var outSequence: UInt32 = 0
  var inSequence: UInt32 = 0
  var outSequenceHigh: UInt32 = 0
  var inSequenceHigh: UInt32 = 0
  /// In packets.
  var window: UInt32 = 0
  var bitmapWords: UInt32 = 0
  /// As many of the words as were sent.
  var bitmap: [UInt32] = []

  init() {}

  init(from cursor: inout ByteCursor) {
    bitmapWords = cursor.uint32()
    outSequence = cursor.uint32()
    inSequence = cursor.uint32()
    outSequenceHigh = cursor.uint32()
    inSequenceHigh = cursor.uint32()
    window = cursor.uint32()
    while cursor.remaining >= 4, bitmap.count < Int(Self.maximumWords) { bitmap.append(cursor.uint32()) }
  }

  func encode(into builder: inout ByteBuilder) {
    builder.append(bitmapWords)
    builder.append(outSequence)
    builder.append(inSequence)
    builder.append(outSequenceHigh)
    builder.append(inSequenceHigh)
    builder.append(window)
    for index in 0..<Int(bitmapWords) { builder.append(index < bitmap.count ? bitmap[index] : 0) }
  }

  /// The state of an SA as the kernel lays it out: bit (sequence - 1) modulo the window stands for a sequence number.
  init(_ record: SARecord, window: UInt32, isOutbound: Bool) {
    self.window = window
    bitmapWords = min((window + 31) / 32, Self.maximumWords)
    // The number of the direction that the SA does not have is what was set.
    let outbound = isOutbound ? record.sequence : record.parameters.sequence
    let inbound = isOutbound ? record.parameters.replayHighest : record.sequence
    outSequence = UInt32(truncatingIfNeeded: outbound)
    outSequenceHigh = UInt32(truncatingIfNeeded: outbound >> 32)
    inSequence = UInt32(truncatingIfNeeded: inbound)
    inSequenceHigh = UInt32(truncatingIfNeeded: inbound >> 32)
    bitmap = Array(repeating: 0, count: Int(bitmapWords))
    guard !isOutbound else { return }
    for back in 0..<UInt64(min(64, window)) where record.replayBitmap >> back & 1 == 1 && record.sequence > back {
      let bit = Int((record.sequence - back - 1) % UInt64(window))
      if bit / 32 < bitmap.count { bitmap[bit / 32] |= 1 << UInt32(bit % 32) }
    }
  }

  var outbound: UInt64 { UInt64(outSequenceHigh) << 32 | UInt64(outSequence) }
  var inbound: UInt64 { UInt64(inSequenceHigh) << 32 | UInt64(inSequence) }
}

/// `struct xfrm_user_migrate`, 76 bytes: one template's end points, old and new.
struct XFRMMigration: Equatable, Sendable {
  static let length = 76

  var oldDestination = XFRMAddress()
  var oldSource = XFRMAddress()
  var newDestination = XFRMAddress()
  var newSource = XFRMAddress()
  var ipProtocol: UInt8 = 0
  var mode: UInt8 = 0
  var requestID: UInt32 = 0
  var oldFamily: UInt16 = 0
  var newFamily: UInt16 = 0

  init() {}

  init(from cursor: inout ByteCursor) {
    oldDestination = XFRMAddress(from: &cursor)
    oldSource = XFRMAddress(from: &cursor)
    newDestination = XFRMAddress(from: &cursor)
    newSource = XFRMAddress(from: &cursor)
    ipProtocol = cursor.uint8()
    mode = cursor.uint8()
    cursor.skip(2)
    requestID = cursor.uint32()
    oldFamily = cursor.uint16()
    newFamily = cursor.uint16()
  }

  func encode(into builder: inout ByteBuilder) {
    oldDestination.encode(into: &builder)
    oldSource.encode(into: &builder)
    newDestination.encode(into: &builder)
    newSource.encode(into: &builder)
    builder.append(ipProtocol)
    builder.append(mode)
    builder.zeros(2)
    builder.append(requestID)
    builder.append(oldFamily)
    builder.append(newFamily)
  }
}
