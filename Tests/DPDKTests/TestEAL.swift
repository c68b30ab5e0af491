import CDPDK
import DPDK
import Foundation
import Testing

/// EAL of the test process, started once and never stopped: no hugepages, no PCI.
enum TestEAL {
  static let workers = Array(CPUSet.allowed.cores.prefix(2))

  static let started: Result<EAL, EALError> = {
    var configuration = EALConfiguration(workers: workers)
    configuration.hugepages = false
    configuration.memory = 256
    configuration.filePrefix = "dpdk-tests-\(getpid())"
    do throws(EALError) {
      let eal = try EAL(configuration)
      atexit { try? FileManager.default.removeItem(atPath: "/var/run/dpdk/dpdk-tests-\(getpid())") }
      return .success(eal)
    } catch { return .failure(error) }
  }()

  static let pool: Mempool = {
    do { return try Mempool(name: "tests", capacity: 4095) } catch { fatalError("\(error)") }
  }()

  /// A pool of a test's own, whose counts nobody else changes.
  static func pool(_ name: String, capacity: Int = 1023) throws -> Mempool {
    _ = try started.get()
    return try Mempool(name: name, capacity: capacity)
  }
}

/// A scratch folder that goes with the object.
final class ScratchFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "dpdk-tests-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Ports, rings and pools are the process's: one test at a time.
@Suite(.serialized) enum DPDKTests {}
