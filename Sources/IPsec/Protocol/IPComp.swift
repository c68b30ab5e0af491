import CDeflate
import CLayout
import Wire

/// IP payload compression (RFC 3173) with DEFLATE (RFC 2394), packet by packet.
public enum IPComp {
  public static let ipProtocol: UInt8 = 108
  /// The well-known CPI of DEFLATE (RFC 3173 3.3); negotiated ones are 256 and above.
  public static let deflateCPI: UInt16 = 2
  /// Payloads below this do not shrink (RFC 2394 section 3).
  public static let minimumLength = 90

  /// The SA's CPI: its SPI's low half.
  @inlinable @inline(__always)
  public static func cpi(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt16 {
    UInt16(truncatingIfNeeded: UInt32(bigEndian: sa.pointee.spi))
  }
}

/// libdeflate's state and a buffer, allocated once. One worker's; nothing is kept from packet to packet (RFC 3173 2.2).
///
/// libdeflate at its fastest level: at 1400 bytes half of zlib's time either way, at the same ratio within 2 per cent.
public struct Deflate {
  /// What one packet can be: no more is ever decompressed, whatever the compressed bytes ask for.
  public static let capacity = 65_535

  private let compressor: OpaquePointer
  private let decompressor: OpaquePointer
  /// `capacity` bytes: what `compress` and `decompress` made last.
  public let output: UnsafeMutableRawPointer

  /// Nil without memory.
  public init?() {
    guard let compressor = libdeflate_alloc_compressor(1) else { return nil }
    guard let decompressor = libdeflate_alloc_decompressor() else {
      libdeflate_free_compressor(compressor)
      return nil
    }
    self.compressor = compressor
    self.decompressor = decompressor
    output = .allocate(byteCount: Self.capacity + 1, alignment: 64)
  }

  public func deallocate() {
    libdeflate_free_compressor(compressor)
    libdeflate_free_decompressor(decompressor)
    output.deallocate()
  }

  /// Compresses `length` bytes into `output`. 0: not below `limit` bytes.
  public func compress(_ input: UnsafeRawPointer, length: Int, limit: Int) -> Int {
    guard limit > 1 else { return 0 }
    return libdeflate_deflate_compress(compressor, input, length, output, min(limit &- 1, Self.capacity))
  }

  /// Decompresses `length` bytes into `output`; nil: damaged, or more than `limit` bytes. Bytes after the end of the
  /// compressed data are ignored.
  public func decompress(_ input: UnsafeRawPointer, length: Int, limit: Int) -> Int? {
    var made = 0
    let outcome = libdeflate_deflate_decompress(
      decompressor, input, length, output, min(limit, Self.capacity), &made)
    return outcome == LIBDEFLATE_SUCCESS ? made : nil
  }
}

/// Which SAs' packets did not shrink lately: those are not tried again for a while (RFC 3173 4.3). One worker's, so that
/// no counter is shared; a small table by the SA's serial, where a stranger simply takes the place over.
public struct CompressionHistory {
  struct Entry {
    var serial: UInt32 = 0
    var failures: UInt8 = 0
    /// Packets still to be passed over.
    var skip: UInt16 = 0
  }

  static let size = 1024
  /// In a row, before any is passed over.
  static let patience: UInt8 = 3
  /// 2 to this many packets are passed over at the most.
  static let maximumShift: UInt8 = 8

  private let entries: UnsafeMutablePointer<Entry>

  public init() {
    entries = .allocate(capacity: Self.size)
    entries.initialize(repeating: Entry(), count: Self.size)
  }

  public func deallocate() { entries.deallocate() }

  /// Whether to try this packet of the SA.
  public func shouldTry(serial: UInt32) -> Bool {
    let entry = entries + Int(serial) & (Self.size - 1)
    if entry.pointee.serial != serial { entry.pointee = Entry(serial: serial) }
    guard entry.pointee.skip > 0 else { return true }
    entry.pointee.skip &-= 1
    return false
  }

  /// What became of a packet that was tried.
  public func note(serial: UInt32, didShrink: Bool) {
    let entry = entries + Int(serial) & (Self.size - 1)
    guard entry.pointee.serial == serial else { return }
    if didShrink {
      entry.pointee.failures = 0
    } else {
      let failures = min(entry.pointee.failures &+ 1, Self.patience &+ Self.maximumShift)
      entry.pointee.failures = failures
      if failures > Self.patience { entry.pointee.skip = 1 &<< UInt16(failures &- Self.patience) }
    }
  }
}
