/// Frees what the control thread has unpublished once no worker can still hold it.
public protocol Reclaimer: AnyObject {
  /// Control thread. `free` runs on the control thread after every worker has passed a quiescent state.
  func retire(_ free: @escaping () -> Void)
}

/// Frees at once: for tests and tools that have no concurrent readers.
public final class ImmediateReclaimer: Reclaimer {
  public init() {}

  public func retire(_ free: @escaping () -> Void) { free() }
}
