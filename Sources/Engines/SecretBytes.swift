import COpenSSL

/// Key material: wiped when the last reference goes, compared in constant time, never printed.
public final class SecretBytes: @unchecked Sendable, Equatable, CustomStringConvertible {
  /// Immutable until deinit; readable from any thread.
  public let bytes: UnsafeRawBufferPointer

  /// No bytes.
  public static let empty = SecretBytes([])

  public init(_ source: some Collection<UInt8>) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 16)
    copy.copyBytes(from: source)
    bytes = UnsafeRawBufferPointer(copy)
  }

  deinit {
    OPENSSL_cleanse(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    bytes.deallocate()
  }

  public var count: Int { bytes.count }

  /// A deliberate disclosure (`-k`, a key daemon asking for its own SA): lower-case hex.
  public func revealedHex() -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }

  public static func == (a: SecretBytes, b: SecretBytes) -> Bool {
    a.count == b.count && CRYPTO_memcmp(a.bytes.baseAddress, b.bytes.baseAddress, a.count) == 0
  }

  public var description: String { "<\(count * 8) secret bits>" }
}
