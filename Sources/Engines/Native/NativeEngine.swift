import CCrypto

/// GCM and GMAC on the processor's VAES, of our own (`gcm_vaes.h`): where it runs it is faster at every size than the
/// libraries, which use these instructions with AVX-512 alone.
public struct NativeEngine: CryptoEngine {
  public var name: String { "native" }
  public var version: String { "VAES, 256 bit" }

  /// Nil where the processor lacks the instructions.
  public init?() {
    guard gcm_vaes_supported() == 1 else { return nil }
  }

  public func supports(_ transform: CryptoTransform) -> Bool {
    guard transform.isMeaningful else { return false }
    return switch transform.encryption {
    case .aesGCM16, .aesGCM12, .aesGCM8, .aesGMAC: true
    case .null: transform.authentication == .aesGMAC
    default: false
    }
  }

  /// One read-only record for all workers: stride 0.
  public func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    try transform.check()
    guard supports(transform) else { throw .unsupported("\(TransformKind(transform))") }
    let isSeal = direction == .seal
    let memory = SessionMemory(record: MemoryLayout<gcm_vaes_key>.size, count: 1)
    let key = memory.base.bindMemory(to: gcm_vaes_key.self, capacity: 1)
    let raw = transform.encryption == .null ? transform.macKey : transform.cipherKey
    // `check` has seen a key of one of the lengths, so there is one.
    gcm_vaes_expand(key, raw.bytes.unsafelyUnwrapped, raw.count)
    key.pointee.icv_length = UInt32(transform.icvLength)
    let burst: CryptoBurst =
      switch transform.encryption {
      case .null: isSeal ? NativeGCM.sealAH : NativeGCM.openAH
      case .aesGMAC: isSeal ? NativeGCM.sealESP : NativeGCM.openESP
      default: isSeal ? NativeGCM.seal : NativeGCM.open
      }
    return CryptoSession(
      burst: burst, base: memory.base, stride: 0, footprint: memory.footprint,
      destroyer: { SessionMemory.of($0).release() })
  }
}
