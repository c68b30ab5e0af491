import CCrypto

/// What an SA asks of an engine. Immutable.
public struct CryptoTransform: Sendable {
  public var encryption: EncryptionAlgorithm
  /// With salt, as on the wire of the key protocols.
  public var encryptionKey: SecretBytes
  /// Nil for AEADs and for unauthenticated ESP.
  public var authentication: AuthenticationAlgorithm?
  public var authenticationKey: SecretBytes

  public init(
    encryption: EncryptionAlgorithm, encryptionKey: SecretBytes = SecretBytes([]),
    authentication: AuthenticationAlgorithm? = nil, authenticationKey: SecretBytes = SecretBytes([])
  ) {
    self.encryption = encryption
    self.encryptionKey = encryptionKey
    self.authentication = authentication
    self.authenticationKey = authenticationKey
  }

  /// Bytes of ICV on the wire.
  public var icvLength: Int { encryption.isAEAD ? encryption.icvLength : authentication?.icvLength ?? 0 }
}

/// Which way an SA's packets go; an engine makes the key schedules of that way only.
public enum CryptoDirection: Sendable { case seal, open }

/// The key schedules of one SA, keyed once. Made and destroyed on the control thread; the workers see only the pointers.
/// Keys are wiped by `destroy`.
public struct CryptoSession: @unchecked Sendable {
  /// Seals or opens, as was asked for.
  public let burst: CryptoBurst
  /// Worker `w` puts `base + stride * w` into its jobs. `stride` is 0 where the schedules are read-only and shared.
  public let base: UnsafeMutableRawPointer
  public let stride: Int
  /// Bytes of memory held, for `show`.
  public let footprint: Int
  private let destroyer: crypto_destroy

  public init(
    burst: @escaping CryptoBurst, base: UnsafeMutableRawPointer, stride: Int, footprint: Int,
    destroyer: @escaping crypto_destroy
  ) {
    self.burst = burst
    self.base = base
    self.stride = stride
    self.footprint = footprint
    self.destroyer = destroyer
  }

  /// After every worker has passed a quiescent state.
  public func destroy() { destroyer(base) }
}

/// Why an engine made no session.
public enum CryptoEngineError: Error, Equatable, CustomStringConvertible {
  case unsupported(String)
  case keyLength(expected: [Int], got: Int)
  case library(String)

  public var description: String {
    switch self {
    case .unsupported(let what): "\(what) is not supported by this engine"
    case .keyLength(let expected, let got):
      "key of \(got * 8) bits, expected \(expected.map { String($0 * 8) }.joined(separator: " or "))"
    case .library(let message): message
    }
  }
}

/// A library that runs transforms. Control thread only; what it makes runs on workers.
public protocol CryptoEngine: Sendable {
  /// The name that `crypto:` in gateway.yaml and `gwctl show engines` use: `openssl`, `ipsec-mb`,
  /// `native`.
  var name: String { get }
  /// The library's own.
  var version: String { get }
  func supports(_ transform: CryptoTransform) -> Bool
  /// Keys a session for workers 0..<workers.
  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession
}

extension CryptoEngine {
  public var version: String { "" }
}
