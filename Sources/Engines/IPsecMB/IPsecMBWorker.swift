import CIPsecMB

/// One worker's multi-buffer manager and the tags of the packets that are in it. Shared by all sessions of the worker;
/// only that worker's thread may touch it once sessions were made.
struct IPsecMBWorker {
  /// Jobs submitted at a time; the manager's rings hold twice IMB_MAX_BURST_SIZE.
  static let burst = 64
  /// Bytes kept for a tag: SHA-512's.
  static let tagSize = 64

  let manager: UnsafeMutablePointer<IMB_MGR>
  let tags: UnsafeMutablePointer<UInt8>

  /// Nil if the library finds no implementation for this CPU.
  static func make() -> UnsafeMutablePointer<IPsecMBWorker>? {
    guard let manager = alloc_mb_mgr(0) else { return nil }
    init_mb_mgr_auto(manager, nil)
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
