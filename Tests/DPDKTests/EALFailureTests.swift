import Foundation
import Testing

@testable import DPDK

// Each in a process of its own: EAL is started at most once.
@Suite struct EALFailureTests {
  @Test func refusedArgument() async {
    await #expect(processExitsWith: .success) {
      var configuration = EALConfiguration(workers: [CPUSet.allowed.cores[0]])
      configuration.hugepages = false
      configuration.filePrefix = "dpdk-tests-\(getpid())"
      configuration.extraArguments = ["--no-such-argument"]
      do throws(EALError) { _ = try EAL(configuration) } catch {
        guard case .initialization(let reason) = error, !reason.contains("\n") else { exit(2) }
        exit(reason.isEmpty ? 3 : 0)
      }
      exit(1)
    }
  }

  @Test func noHugepages() async {
    guard Hugepages.free == 0 else { return }
    await #expect(processExitsWith: .success) {
      do throws(EALError) { _ = try EAL(EALConfiguration(workers: [CPUSet.allowed.cores[0]])) } catch {
        exit(error == .noHugepages(needed: 128) && "\(error)".contains("nr_hugepages") ? 0 : 2)
      }
      exit(1)
    }
  }

  @Test func oneCoreStartsStopsAndLeavesNothing() async {
    await #expect(processExitsWith: .success) {
      var configuration = EALConfiguration(workers: [CPUSet.allowed.cores[0]])
      configuration.hugepages = false
      configuration.memory = 32
      configuration.filePrefix = "dpdk-tests-\(getpid())"
      guard let eal = try? EAL(configuration) else { exit(1) }
      let socket = eal.telemetrySocket
      guard FileManager.default.fileExists(atPath: socket) else { exit(2) }
      do { try eal.workers[0].launch({ _ in 5 }, nil) } catch { exit(3) }
      guard eal.workers[0].wait(seconds: 10) == 5 else { exit(4) }
      eal.stop()
      exit(FileManager.default.fileExists(atPath: socket) ? 5 : 0)
    }
  }

  /// Needs 2 MB pages: echo 64 > /proc/sys/vm/nr_hugepages
  @Test(.enabled(if: Hugepages.free >= 32)) func aKilledProcessGivesItsHugepagesBack() async {
    let before = Hugepages.free
    await #expect(processExitsWith: .signal(SIGKILL)) {
      var configuration = EALConfiguration(workers: [CPUSet.allowed.cores[0]])
      configuration.filePrefix = "dpdk-tests-huge"
      let free = Hugepages.free
      guard (try? EAL(configuration)) != nil, (try? Mempool(name: "huge", capacity: 4095)) != nil else { exit(1) }
      guard Hugepages.free < free else { exit(2) }
      kill(getpid(), SIGKILL)
    }
    #expect(Hugepages.free == before)
  }
}
