import CLayout
import Engines
import Wire

/// AH's packet format (RFC 4302): the header with its ICV, and the job over the image of a packet.
///
/// The image is the packet itself with its mutable fields and the ICV zero (`AHImage`): the caller keeps what was there
/// and puts it back. Nothing here allocates or traps; the callers have checked room and lengths as each function says.
public enum AH {
  public static let ipProtocol: UInt8 = 51
  /// The ICV field of any SA: IV, ICV and padding.
  public static let maximumICVField = 8 + 32 + 8

  /// Bytes of the header that the SA sends: the ICV (with GMAC its IV before it) padded so that the whole is a multiple
  /// of 32 bits in IPv4 and of 64 bits in IPv6 (RFC 4302 2.6).
  @inlinable @inline(__always)
  public static func headerLength(_ sa: UnsafeMutablePointer<gw_sa>) -> Int {
    let mask = Int(sa.pointee.alignment) &- 1
    return (AHHeader.fixedLength &+ icvLength(sa) &+ mask) & ~mask
  }

  /// IV and ICV without padding.
  @inlinable @inline(__always)
  static func icvLength(_ sa: UnsafeMutablePointer<gw_sa>) -> Int {
    Int(sa.pointee.iv_length) &+ Int(sa.pointee.icv_length)
  }

  /// Whether a received header's length is one that the SA's algorithm can have. Over IPv4 with padding to 64 bits, as
  /// Linux sends unless told otherwise, or without.
  public static func accepts(_ sa: UnsafeMutablePointer<gw_sa>, headerLength length: Int) -> Bool {
    let least = AHHeader.fixedLength &+ icvLength(sa)
    let isV6 = sa.pointee.flags & GW_SA_OUTER_V6.rawValue != 0
    return length == (least &+ 7) & ~7 || (!isV6 && length == least)
  }

  /// Writes a header whose ICV field is zero, as the image wants it.
  public static func write(
    _ sa: UnsafeMutablePointer<gw_sa>, at header: UnsafeMutableRawPointer, nextHeader: UInt8, sequence: UInt64
  ) {
    let length = headerLength(sa)
    AHHeader.write(
      header, nextHeader: nextHeader, headerLength: length, spi: UInt32(bigEndian: sa.pointee.spi),
      sequence: UInt32(truncatingIfNeeded: sequence))
    (header + AHHeader.fixedLength).initializeMemory(
      as: UInt8.self, repeating: 0, count: length &- AHHeader.fixedLength)
  }

  /// After sealing: the IV, which is no part of the image. The sequence number is the IV: unique under this key whatever
  /// worker took it (RFC 4543 3.1).
  public static func writeIV(_ sa: UnsafeMutablePointer<gw_sa>, at header: UnsafeMutableRawPointer, sequence: UInt64) {
    guard sa.pointee.iv_length == 8 else { return }
    header.setBig64(sequence, at: AHHeader.fixedLength)
  }

  /// Moves a received ICV field (at most `maximumICVField` bytes) to `kept` and leaves zeros; padding stays, it is part
  /// of the image (RFC 4302 3.3.3.2.1).
  public static func takeICV(
    _ sa: UnsafeMutablePointer<gw_sa>, from header: UnsafeMutableRawPointer, to kept: UnsafeMutableRawPointer
  ) {
    let field = header + AHHeader.fixedLength
    let count = icvLength(sa)
    kept.copyMemory(from: field, byteCount: count)
    field.initializeMemory(as: UInt8.self, repeating: 0, count: count)
  }

  /// Fills `job` for the image of `length` bytes at `image`. `icvField` is where the ICV field stands while the job
  /// runs: in the header to seal, in what `takeICV` kept to open. With ESN four bytes behind the image must be the
  /// packet's to write (see `crypto_job`).
  public static func fill(
    _ job: UnsafeMutablePointer<CryptoJob>, _ sa: UnsafeMutablePointer<gw_sa>, image: UnsafeMutableRawPointer,
    length: Int, icvField: UnsafeMutableRawPointer, iv: UInt64, sequence: UInt64, session: UnsafeMutableRawPointer
  ) {
    job.pointee.session = session
    job.pointee.authenticated = image.assumingMemoryBound(to: UInt8.self)
    job.pointee.authenticated_length = UInt32(truncatingIfNeeded: length)
    // Nothing is encrypted; the length tells engines how large the packet is.
    job.pointee.text = job.pointee.authenticated
    job.pointee.textLength(length)
    job.pointee.icv = (icvField + Int(sa.pointee.iv_length)).assumingMemoryBound(to: UInt8.self)
    job.pointee.aad_length = 0
    job.pointee.nonce = sa.pointee.iv_length == 8 ? ESP.nonce(sa, iv: iv) : (0, 0)
    if sa.pointee.flags & GW_SA_ESN.rawValue == 0 {
      job.pointee.has_sequence_high = 0
    } else {
      job.pointee.sequence_high = UInt32(truncatingIfNeeded: sequence >> 32).bigEndian
      job.pointee.has_sequence_high = 1
    }
  }
}
