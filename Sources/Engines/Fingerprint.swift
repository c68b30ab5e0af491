import COpenSSL

/// Stands for secrets without giving them away: the first half of an HMAC-SHA-256 under another secret.
public struct Fingerprint: Hashable, Sendable {
  public var high: UInt64
  public var low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
}

/// Makes fingerprints under one secret of 32 bytes.
public struct Fingerprinter {
  public static let secretLength = 32

  private let keyed: HMAC<SHA256Digest>

  public init(secret: SecretBytes) { keyed = HMAC(key: secret.bytes) }

  /// Under a secret that nobody else knows, and that ends with this.
  public init() { self.init(secret: Self.makeSecret()) }

  public static func makeSecret() -> SecretBytes {
    var random = SystemRandomNumberGenerator()
    return SecretBytes((0..<secretLength).map { _ in UInt8.random(in: 0...255, using: &random) })
  }

  /// Of a label and secrets. Each counts with its length, so that no two lists of them are the same text.
  public func fingerprint(_ label: String, _ secrets: [UnsafeRawBufferPointer]) -> Fingerprint {
    var label = label
    return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: SHA256Digest.length / 8) { sum in
      guard let words = sum.baseAddress else { return Fingerprint(high: 0, low: 0) }
      let bytes = UnsafeMutableRawPointer(words).assumingMemoryBound(to: UInt8.self)
      var state = keyed.inner
      label.withUTF8 { Self.add(&state, UnsafeRawBufferPointer($0)) }
      for secret in secrets { Self.add(&state, secret) }
      SHA256Digest.finish(&state, into: bytes)
      state = keyed.outer
      SHA256Digest.update(&state, bytes, SHA256Digest.length)
      SHA256Digest.finish(&state, into: bytes)
      return Fingerprint(high: words[0], low: words[1])
    }
  }

  private static func add(_ state: inout SHA256Digest.State, _ part: UnsafeRawBufferPointer) {
    var length = UInt64(part.count).bigEndian
    SHA256Digest.update(&state, &length, 8)
    if let start = part.baseAddress { SHA256Digest.update(&state, start, part.count) }
  }
}
