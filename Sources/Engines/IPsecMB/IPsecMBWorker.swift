import CIPsecMB

/// A multi-buffer manager of one worker and the tags of the packets that are in it. Shared by sessions of the worker;
/// only that worker's thread may touch it once sessions were made.
struct IPsecMBWorker {
  /// Jobs submitted at a time; the manager's rings hold twice IMB_MAX_BURST_SIZE.
  static let burst = 64
  /// Bytes kept for a tag: SHA-512's.
  static let tagSize = 64

  let manager: UnsafeMutablePointer<IMB_MGR>
  let tags: UnsafeMutablePointer<UInt8>

  enum Code: CaseIterable {
    /// What the library thinks best for the CPU.
    case automatic
    /// Its SSE code, the only one that uses the SHA extensions where there is no AVX-512: SHA-256 takes half the time
    /// of AVX2's eight lanes.
    case shaExtensions
    /// Its AVX code, for GCM beside AVX2's.
    case avx
  }

  /// Whether `shaExtensions` is worth having beside `automatic`.
  var hasSHAExtensionsUnused: Bool {
    let isAVX = [IMB_ARCH_AVX, IMB_ARCH_AVX2].contains(architecture)
    return isAVX && manager.pointee.features & UInt64(IMB_FEATURE_SHANI) != 0
  }

  var isAVX2: Bool { architecture == IMB_ARCH_AVX2 }

  private var architecture: IMB_ARCH { IMB_ARCH(rawValue: manager.pointee.used_arch) }

  /// Nil if the library finds no implementation for this CPU.
  static func make(_ code: Code) -> UnsafeMutablePointer<IPsecMBWorker>? {
    guard let manager = alloc_mb_mgr(0) else { return nil }
    switch code {
    case .automatic: init_mb_mgr_auto(manager, nil)
    case .shaExtensions: init_mb_mgr_sse(manager)
    case .avx: init_mb_mgr_avx(manager)
    }
    guard imb_get_errno(manager) == 0, manager.pointee.submit_burst_nocheck != nil else {
      free_mb_mgr(manager)
      return nil
    }
    let tags = UnsafeMutableRawPointer.allocate(byteCount: burst * tagSize, alignment: SessionMemory.line)
    let worker = UnsafeMutablePointer<IPsecMBWorker>.allocate(capacity: 1)
    worker.initialize(to: IPsecMBWorker(manager: manager, tags: tags.assumingMemoryBound(to: UInt8.self)))
    return worker
  }

  static func release(_ worker: UnsafeMutablePointer<IPsecMBWorker>) {
    free_mb_mgr(worker.pointee.manager)
    worker.pointee.tags.deallocate()
    worker.deallocate()
  }
}
