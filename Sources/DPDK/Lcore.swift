import CDPDK
import Foundation

/// A thread of EAL that is pinned to a core and runs one worker. Never touches Swift concurrency.
public struct Lcore: Sendable, Hashable {
  /// What it runs: a plain top-level function; the context outlives it.
  public typealias Function = @convention(c) (UnsafeMutableRawPointer?) -> Int32

  /// DPDK's number of the thread, not that of the core.
  public let id: UInt32
  public let core: Int
  /// NUMA node.
  public let socket: Int

  public var isRunning: Bool { rte_eal_get_lcore_state(id) == RUNNING }

  /// Returns at once. Any thread but a worker's, one at a time.
  public func launch(_ function: @escaping Function, _ context: UnsafeMutableRawPointer?) throws(EALError) {
    let code = rte_eal_remote_launch(function, context, id)
    guard code == 0 else { throw .launch(core: core, code: code) }
  }

  /// Sleeps until the function has returned; its result, or nil after `seconds`. Not in a Task.
  public func wait(seconds: Double = .infinity) -> Int32? {
    var waited = 0.0
    while isRunning {
      guard waited < seconds else { return nil }
      usleep(1000)
      waited += 0.001
    }
    return rte_eal_wait_lcore(id)
  }
}
