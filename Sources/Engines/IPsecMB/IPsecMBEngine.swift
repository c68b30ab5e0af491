import CCrypto
import CIPsecMB
import COpenSSL
import Synchronization

/// intel-ipsec-mb: GCM and GMAC by its direct functions, the others through multi-buffer managers of each worker.
/// Its sessions may not outlive it.
public final class IPsecMBEngine: CryptoEngine {
  public var name: String { "ipsec-mb" }
  public var version: String { imb_get_version_str().map { String(cString: $0) } ?? "" }

  private struct Workers: @unchecked Sendable {
    var all: [UnsafeMutablePointer<IPsecMBWorker>]
  }
  private let workers = Mutex<[IPsecMBWorker.Code: Workers]>([:])
  /// One that is never given jobs, for key schedules and function pointers.
  private let spare: Workers
  private var keying: UnsafeMutablePointer<IPsecMBWorker> { spare.all[0] }

  /// Beside it the AVX code's, where the CPU has AVX2.
  private let avx: Workers
  private let choice: IPsecMBGCMCode.Choice
  /// By length of key and direction; made when first asked for.
  private let codes = Mutex<[IPsecMBGCMCode.Key: IPsecMBGCMCode]>([:])

  /// Nil where the library does not know the CPU.
  public convenience init?() { self.init(.measured) }

  init?(_ choice: IPsecMBGCMCode.Choice) {
    guard let keying = IPsecMBWorker.make(.automatic) else { return nil }
    spare = Workers(all: [keying])
    avx = Workers(all: keying.pointee.isAVX2 ? [IPsecMBWorker.make(.avx)].compactMap { $0 } : [])
    self.choice = choice
  }

  deinit {
    for worker in spare.all + avx.all { IPsecMBWorker.release(worker) }
    for worker in workers.withLock({ $0.values.flatMap(\.all).map { Workers(all: [$0]) } }) {
      IPsecMBWorker.release(worker.all[0])
    }
  }

  public func supports(_ transform: CryptoTransform) -> Bool {
    guard transform.isMeaningful else { return false }
    return switch transform.encryption {
    // Its 3DES is plain C without AVX-512, many times slower than libcrypto's.
    case .camelliaCBC, .tripleDESCBC: false
    // Nothing to do: left to the OpenSSL engine.
    case .null: transform.authentication != nil
    case .aesCCM16, .aesCCM12, .aesCCM8: transform.cipherKey.count != 24
    default: true
    }
  }

  public func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    try transform.check()
    guard supports(transform) else { throw .unsupported("\(transform.encryption)") }
    switch (transform.encryption, transform.authentication) {
    case (.aesGCM16, _), (.aesGCM12, _), (.aesGCM8, _):
      return try gcm(transform, direction)
    case (.aesGMAC, _):
      return try gmac(transform, direction == .seal ? IPsecMBGCM.sealESP : IPsecMBGCM.openESP)
    case (_, .aesGMAC):
      return try gmac(transform, direction == .seal ? IPsecMBGCM.sealAH : IPsecMBGCM.openAH)
    default:
      return try multiBuffer(transform, direction, workers)
    }
  }

  private func gcm(
    _ transform: CryptoTransform, _ direction: CryptoDirection
  ) throws(CryptoEngineError) -> CryptoSession {
    let key = transform.cipherKey
    guard let code = code(key.count, direction) else { throw Self.lacksGCM }
    var record = IPsecMBGCMRecord(icvLength: UInt32(transform.icvLength))
    (record.run, record.runLong, record.longFrom) = (code.run, code.runLong, code.longFrom)
    return session(record, key, code.expand, direction == .seal ? IPsecMBGCM.seal : IPsecMBGCM.open)
  }

  private static let lacksGCM = CryptoEngineError.library("ipsec-mb has no GCM")

  private func code(_ keyLength: Int, _ direction: CryptoDirection) -> IPsecMBGCMCode? {
    let key = IPsecMBGCMCode.Key(length: keyLength, direction: direction)
    return codes.withLock { codes in
      if codes[key] == nil { codes[key] = IPsecMBGCMCode(keying, avx.all.first, key, choice) }
      return codes[key]
    }
  }

  private func gmac(
    _ transform: CryptoTransform, _ burst: @escaping CryptoBurst
  ) throws(CryptoEngineError) -> CryptoSession {
    let key = transform.encryption == .null ? transform.macKey : transform.cipherKey
    guard let functions = IPsecMBGCMFunctions(keying, key.count) else { throw Self.lacksGCM }
    let manager = keying.pointee.manager.pointee
    var record = IPsecMBGCMRecord(icvLength: UInt32(transform.icvLength))
    (record.start, record.update, record.finish) =
      switch key.count {
      case 16: (manager.gmac128_init, manager.gmac128_update, manager.gmac128_finalize)
      case 24: (manager.gmac192_init, manager.gmac192_update, manager.gmac192_finalize)
      default: (manager.gmac256_init, manager.gmac256_update, manager.gmac256_finalize)
      }
    return session(record, key, functions.expand, burst)
  }

  /// One record for all workers: stride 0.
  private func session(
    _ record: IPsecMBGCMRecord, _ key: UnsafeRawBufferPointer, _ expand: aes_gcm_pre_t, _ burst: @escaping CryptoBurst
  ) -> CryptoSession {
    let memory = SessionMemory(record: IPsecMBGCMRecord.keyOffset + ipsecmb_gcm_key_size, count: 1)
    expand(key.baseAddress, OpaquePointer(memory.base + IPsecMBGCMRecord.keyOffset))
    memory.base.assumingMemoryBound(to: IPsecMBGCMRecord.self).initialize(to: record)
    return CryptoSession(
      burst: burst, base: memory.base, stride: 0, footprint: memory.footprint,
      destroyer: { SessionMemory.of($0).release() })
  }

  private func multiBuffer(
    _ transform: CryptoTransform, _ direction: CryptoDirection, _ count: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    let memory = SessionMemory(record: MemoryLayout<IPsecMBRecord>.size, count: count, shared: IPsecMBKeys.size)
    let usesSHAExtensions = transform.authentication == .hmacSHA256 && keying.pointee.hasSHAExtensionsUnused
    let code = usesSHAExtensions ? IPsecMBWorker.Code.shaExtensions : .automatic
    let keys = IPsecMBKeys(base: memory.sharedBase, manager: keying.pointee.manager)
    var record = IPsecMBRecord(worker: keying, transform: transform, isSeal: direction == .seal)
    keys.expand(transform, into: &record)
    do {
      for (index, worker) in try managers(code, count).enumerated() {
        record.worker = worker
        memory.record(index).assumingMemoryBound(to: IPsecMBRecord.self).initialize(to: record)
      }
    } catch {
      memory.release()
      throw error
    }
    let isSeal = direction == .seal
    let burst =
      if transform.encryption.isAEAD {
        isSeal ? IPsecMBBurst.sealAEAD : IPsecMBBurst.openAEAD
      } else if code == .shaExtensions {
        isSeal ? IPsecMBBurst.sealWithSHAExtensions : IPsecMBBurst.openWithSHAExtensions
      } else {
        isSeal ? IPsecMBBurst.sealComposed : IPsecMBBurst.openComposed
      }
    return CryptoSession(
      burst: burst, base: memory.base, stride: memory.stride, footprint: memory.footprint,
      destroyer: { SessionMemory.of($0).release() })
  }

  /// The managers of workers 0..<count, made when first asked for.
  private func managers(
    _ code: IPsecMBWorker.Code, _ count: Int
  ) throws(CryptoEngineError) -> [UnsafeMutablePointer<IPsecMBWorker>] {
    let made = workers.withLock { workers in
      var all = workers[code]?.all ?? []
      while all.count < count, let worker = IPsecMBWorker.make(code) { all.append(worker) }
      workers[code] = Workers(all: all)
      return Workers(all: Array(all.prefix(count)))
    }
    guard made.all.count == count else { throw .library("ipsec-mb made no manager") }
    return made.all
  }
}
