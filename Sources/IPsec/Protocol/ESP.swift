import CLayout
import Engines

/// ESP's packet format (RFC 4303): headers and trailers around a payload, in place; the cryptography is a `CryptoJob`.
/// Nothing here allocates or traps; the callers have checked room and lengths as each function says.
public enum ESP {
  /// SPI and sequence number.
  public static let headerLength = 8
  public static let ipProtocol: UInt8 = 50

  /// A packet with its protection on: where it starts now and how long it is.
  public struct Framed {
    public var start: UnsafeMutableRawPointer
    public var length: Int
    @inlinable init(start: UnsafeMutableRawPointer, length: Int) {
      self.start = start
      self.length = length
    }
  }

  /// Bytes of trailer (padding, pad length, next header) behind `length` bytes of payload. TFC padding (RFC 4303 2.7) is
  /// part of the payload here: zeros that the inner packet's own length cuts off.
  @inlinable @inline(__always)
  public static func trailerLength(_ sa: UnsafeMutablePointer<gw_sa>, payload length: Int) -> Int {
    let mask = Int(sa.pointee.alignment) &- 1
    return ((length &+ 2 &+ mask) & ~mask) &- length
  }

  /// Puts ESP header, IV and trailer around `length` bytes of payload at `payload` and fills `job`.
  /// Needs `headerLength + iv_length` bytes before and the trailer and `icv_length` bytes after the payload.
  /// Returns the ESP packet from its header on, ICV included.
  @inlinable @inline(__always)
  public static func frame(
    _ sa: UnsafeMutablePointer<gw_sa>, payload: UnsafeMutableRawPointer, length: Int, nextHeader: UInt8,
    sequence: UInt64, random: (UInt64, UInt64), session: UnsafeMutableRawPointer,
    job: UnsafeMutablePointer<CryptoJob>
  ) -> Framed {
    let trailer = trailerLength(sa, payload: length)
    writeTrailer(sa, at: payload + length, trailer: trailer, nextHeader: nextHeader)
    let ivLength = Int(sa.pointee.iv_length)
    let header = payload - (headerLength &+ ivLength)
    let low = UInt32(truncatingIfNeeded: sequence).bigEndian
    header.storeBytes(of: sa.pointee.spi, as: UInt32.self)
    header.storeBytes(of: low, toByteOffset: 4, as: UInt32.self)
    if sa.pointee.crypto == UInt8(GW_CRYPTO_CBC.rawValue) {
      job.pointee.nonce = random
      if ivLength >= 8 { header.storeBytes(of: random.0, toByteOffset: 8, as: UInt64.self) }
      if ivLength == 16 { header.storeBytes(of: random.1, toByteOffset: 16, as: UInt64.self) }
    } else {
      // The sequence number is the IV: unique under this key whatever worker took it (RFC 4106 3.1).
      header.storeBytes(of: sequence.bigEndian, toByteOffset: 8, as: UInt64.self)
      job.pointee.nonce = nonce(sa, iv: sequence.bigEndian)
    }
    let text = length &+ trailer
    fill(job, sa: sa, header: header, text: payload, textLength: text, sequence: sequence, session: session)
    return Framed(start: header, length: headerLength &+ ivLength &+ text &+ Int(sa.pointee.icv_length))
  }

  /// What an inbound ESP packet must be long enough for: header, IV, one block of trailer, ICV; and its ciphertext a
  /// multiple of the alignment (RFC 4303 2.4).
  @inlinable @inline(__always)
  public static func isWellFormed(_ sa: UnsafeMutablePointer<gw_sa>, length: Int) -> Bool {
    let text = length &- headerLength &- Int(sa.pointee.iv_length) &- Int(sa.pointee.icv_length)
    return text >= 2 && text & (Int(sa.pointee.alignment) &- 1) == 0
  }

  /// Fills `job` to open the `length` bytes of ESP at `header`, which `isWellFormed`.
  @inlinable @inline(__always)
  public static func parse(
    _ sa: UnsafeMutablePointer<gw_sa>, header: UnsafeMutableRawPointer, length: Int, sequence: UInt64,
    session: UnsafeMutableRawPointer, job: UnsafeMutablePointer<CryptoJob>
  ) {
    let ivLength = Int(sa.pointee.iv_length)
    let text = length &- headerLength &- ivLength &- Int(sa.pointee.icv_length)
    if sa.pointee.crypto == UInt8(GW_CRYPTO_CBC.rawValue) {
      if ivLength >= 8 { job.pointee.nonce.0 = header.loadUnaligned(fromByteOffset: 8, as: UInt64.self) }
      if ivLength == 16 { job.pointee.nonce.1 = header.loadUnaligned(fromByteOffset: 16, as: UInt64.self) }
    } else {
      job.pointee.nonce = nonce(sa, iv: header.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
    fill(
      job, sa: sa, header: header, text: header + (headerLength &+ ivLength), textLength: text, sequence: sequence,
      session: session)
  }

  /// What stands in a decrypted payload.
  public struct Payload {
    public var length: Int
    public var nextHeader: UInt8
    /// The padding was not 1, 2, 3 … or was longer than the packet.
    public var isValid: Bool
    @inlinable init(length: Int, nextHeader: UInt8, isValid: Bool) {
      self.length = length
      self.nextHeader = nextHeader
      self.isValid = isValid
    }
  }

  /// Reads the trailer of `length` (2 at the least) decrypted bytes at `text`, before which lie 8 bytes or more of header
  /// and IV, and checks the padding.
  @inlinable @inline(__always)
  public static func readTrailer(_ text: UnsafeRawPointer, length: Int) -> Payload {
    let padding = Int(text.load(fromByteOffset: length &- 2, as: UInt8.self))
    let nextHeader = text.load(fromByteOffset: length &- 1, as: UInt8.self)
    let payload = length &- 2 &- padding
    guard payload >= 0 else { return Payload(length: 0, nextHeader: nextHeader, isValid: false) }
    if padding <= 8 {
      // The eight bytes before the two, of which the last `padding` are 1, 2, 3 …
      let before = UInt64(littleEndian: text.loadUnaligned(fromByteOffset: length &- 10, as: UInt64.self))
      return Payload(
        length: payload, nextHeader: nextHeader,
        isValid: gw_is_padding(before, UInt32(truncatingIfNeeded: padding)) != 0)
    }
    return Payload(
      length: payload, nextHeader: nextHeader, isValid: isPadding(text + payload, count: padding))
  }

  /// 1, 2, 3 … Apart from the usual few, whose callers shall not pay for its vectors.
  @usableFromInline @inline(never)
  static func isPadding(_ bytes: UnsafeRawPointer, count: Int) -> Bool {
    var wrong: UInt8 = 0
    var i = 0
    while i < count {
      wrong |= bytes.load(fromByteOffset: i, as: UInt8.self) ^ UInt8(truncatingIfNeeded: i &+ 1)
      i &+= 1
    }
    return wrong == 0
  }

  @inlinable @inline(__always)
  static func writeTrailer(
    _ sa: UnsafeMutablePointer<gw_sa>, at end: UnsafeMutableRawPointer, trailer: Int, nextHeader: UInt8
  ) {
    let padding = trailer &- 2
    if padding <= 16, sa.pointee.icv_length >= 16 {
      // Two stores of 1…16, then the two last bytes over them: the ICV's room lies behind.
      end.storeBytes(of: UInt64(0x0807_0605_0403_0201).littleEndian, as: UInt64.self)
      end.storeBytes(of: UInt64(0x100f_0e0d_0c0b_0a09).littleEndian, toByteOffset: 8, as: UInt64.self)
    } else {
      writePadding(end, count: padding)
    }
    end.storeBytes(of: UInt8(truncatingIfNeeded: padding), toByteOffset: padding, as: UInt8.self)
    end.storeBytes(of: nextHeader, toByteOffset: padding &+ 1, as: UInt8.self)
  }

  @inlinable @inline(__always)
  static func writePadding(_ at: UnsafeMutableRawPointer, count: Int) {
    var i = 0
    while i < count {
      at.storeBytes(of: UInt8(truncatingIfNeeded: i &+ 1), toByteOffset: i, as: UInt8.self)
      i &+= 1
    }
  }

  /// Salt and IV as the cipher takes them; see `enum gw_sa_crypto`. Little-endian machines (asserted in tests).
  @inlinable @inline(__always)
  static func nonce(_ sa: UnsafeMutablePointer<gw_sa>, iv: UInt64) -> (UInt64, UInt64) {
    let salt = UInt64(sa.pointee.salt)
    switch UInt32(sa.pointee.crypto) {
    case GW_CRYPTO_CCM.rawValue: return (salt & 0xff_ffff | iv << 24, iv >> 40)
    case GW_CRYPTO_CTR.rawValue: return (salt | iv << 32, iv >> 32 | UInt64(UInt32(1).bigEndian) << 32)
    default: return (salt | iv << 32, iv >> 32)
    }
  }

  @inlinable @inline(__always)
  static func fill(
    _ job: UnsafeMutablePointer<CryptoJob>, sa: UnsafeMutablePointer<gw_sa>, header: UnsafeMutableRawPointer,
    text: UnsafeMutableRawPointer, textLength: Int, sequence: UInt64, session: UnsafeMutableRawPointer
  ) {
    let low = UInt32(truncatingIfNeeded: sequence).bigEndian
    job.pointee.authenticated = header.assumingMemoryBound(to: UInt8.self)
    job.pointee.authenticated_length = UInt32(truncatingIfNeeded: text - header &+ textLength)
    describe(
      job, session: session, text: text, textLength: textLength,
      identity: UInt64(sa.pointee.spi) | UInt64(low) << 32,
      isExtended: sa.pointee.flags & GW_SA_ESN.rawValue != 0,
      high: UInt32(truncatingIfNeeded: sequence >> 32).bigEndian)
  }

  /// An ESP packet as an engine of an AEAD takes it. `identity`: SPI and the low half of the number as they lie in the
  /// packet; `high`: the upper half, big-endian.
  @inlinable @inline(__always)
  public static func describe(
    _ job: UnsafeMutablePointer<CryptoJob>, session: UnsafeMutableRawPointer, text: UnsafeMutableRawPointer,
    textLength: Int, identity: UInt64, isExtended: Bool, high: UInt32
  ) {
    job.pointee.session = session
    job.pointee.text = text.assumingMemoryBound(to: UInt8.self)
    job.pointee.textLength(textLength)
    job.pointee.icv = (text + textLength).assumingMemoryBound(to: UInt8.self)
    if isExtended {
      job.pointee.aad = (identity & 0xffff_ffff | UInt64(high) << 32, identity >> 32)
      job.pointee.aad_length = 12
      job.pointee.sequence_high = high
      job.pointee.has_sequence_high = 1
    } else {
      job.pointee.aad.0 = identity
      job.pointee.aad_length = 8
      job.pointee.has_sequence_high = 0
    }
  }
}

extension CryptoJob {
  @inlinable @inline(__always)
  mutating func textLength(_ length: Int) { text_length = UInt32(truncatingIfNeeded: length) }

  /// Twelve bytes of nonce, as a counter-mode AEAD takes them (RFC 4106 4).
  @inlinable @inline(__always)
  public mutating func setNonce(salt: UInt32, iv: UInt64) {
    withUnsafeMutableBytes(of: &nonce) {
      $0.storeBytes(of: salt, as: UInt32.self)
      $0.storeBytes(of: iv, toByteOffset: 4, as: UInt64.self)
    }
  }
}
