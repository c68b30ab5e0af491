import CDPDK
import Foundation
import Synchronization

/// DPDK's environment abstraction layer: at most one in the life of a process.
public final class EAL: Sendable {
  public let configuration: EALConfiguration
  /// Worker `i` of the configuration at index `i`.
  public let workers: [Lcore]
  private let thread: ParkedThread

  private static let wasStarted = Atomic(false)

  /// Starts it, on a thread of its own that stays parked until `stop`. Blocks for some 0.3 s.
  public init(_ configuration: EALConfiguration) throws(EALError) {
    let allowed = CPUSet.allowed
    try configuration.validate(online: .online, allowed: allowed)
    if configuration.hugepages, Hugepages.free == 0 {
      throw .noHugepages(needed: Hugepages.pages(for: configuration.memory))
    }
    guard !Self.wasStarted.exchange(true, ordering: .relaxed) else { throw .alreadyStarted }
    self.configuration = configuration
    thread = try ParkedThread(name: "gw-eal")
    let arguments = configuration.arguments(allowed: allowed)
    if let failure = thread.run({ Self.initialize(arguments) }) {
      thread.stop()
      throw failure
    }
    workers = configuration.workers.enumerated().map { index, core in
      let id = UInt32(index + 1)
      return Lcore(id: id, core: core, socket: Int(rte_lcore_to_socket_id(id)))
    }
  }

  /// Nil: it runs.
  private static func initialize(_ arguments: [String]) -> EALError? {
    // EAL keeps pointers into its arguments.
    var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
    guard EALLog.shared.capture() else { return .initialization("its log could not be captured") }
    var output = cdpdk_output()
    let isDiverted = cdpdk_output_divert(&output) == 0
    let result = rte_eal_init(Int32(vector.count), &vector)
    let code = cdpdk_errno()
    if isDiverted { sort(cdpdk_output_restore(&output), failed: result < 0) }
    guard result < 0 else { return nil }
    if code == EACCES || code == EPERM { return .noPermission(EALLog.shared.lastProblem() ?? "EAL") }
    return .initialization(EALLog.shared.lastProblem() ?? String(cString: rte_strerror(code)))
  }

  /// EAL's own lines into the log; what other threads wrote meanwhile goes where it was meant to go.
  private static func sort(_ text: UnsafeMutablePointer<CChar>?, failed: Bool) {
    guard let text else { return }
    defer { free(text) }
    for line in String(cString: text).split(whereSeparator: \.isNewline) {
      if line.hasPrefix("EAL") {
        EALLog.shared.append(failed ? .error : .info, line)
      } else if !failed {
        FileHandle.standardError.write(Data((line + "\n").utf8))
      }
    }
  }

  /// Where DPDK's telemetry socket and lock files of this process are.
  public var runtimeDirectory: String { String(cString: rte_eal_get_runtime_dir()) }

  /// The socket that `dpdk-telemetry.py -f PREFIX` speaks to.
  public var telemetrySocket: String { runtimeDirectory + "/dpdk_telemetry.v2" }

  /// Releases memory and devices. Ports are closed and workers have returned.
  public func stop() {
    let directory = runtimeDirectory
    // Cleanup unmaps memory that EAL's interrupt thread, which runs on, walks after each event: the last ones are those
    // of the ports that were closed just now.
    usleep(100_000)
    thread.run { _ = rte_eal_cleanup() }
    thread.stop()
    // What is left of it: the telemetry socket, and files that only hugepages need.
    try? FileManager.default.removeItem(atPath: directory)
  }

  public static var version: String { String(cString: rte_version()) }
}
