import CDPDK
import Foundation
import Synchronization
import Testing

@testable import DPDK

@Suite struct EALConfigurationTests {
  @Test func mainFloatsOverIdleCores() {
    var configuration = EALConfiguration(workers: [2, 3])
    configuration.filePrefix = "x"
    let arguments = configuration.arguments(allowed: CPUSet([0, 1, 2, 3]))
    #expect(
      arguments == [
        "gwd", "--lcores", "0@(0,1),1@2,2@3", "--main-lcore", "0", "--file-prefix", "x", "--in-memory", "--no-pci",
      ])
  }

  @Test func allCoresPoll() {
    var configuration = EALConfiguration(workers: [0])
    configuration.hugepages = false
    configuration.memory = 64
    configuration.extraArguments = ["-a", "0000:03:00.0"]
    let arguments = configuration.arguments(allowed: CPUSet([0]))
    #expect(arguments[2] == "0@(0),1@0")
    #expect(arguments.contains("--no-huge") && arguments.contains("64") && !arguments.contains("--no-pci"))
    configuration.extraArguments = []
    configuration.pciAddresses = ["0000:03:00.0"]
    #expect(configuration.arguments(allowed: CPUSet([0])).suffix(2) == ["-a", "0000:03:00.0"])
    configuration.extraArguments = ["-m", "512"]
    #expect(!configuration.arguments(allowed: CPUSet([0])).contains("64"))
  }

  @Test func defaultWorkers() {
    #expect(EALConfiguration.defaultWorkers(allowed: CPUSet([0, 1, 5])) == [1, 5])
    #expect(EALConfiguration.defaultWorkers(allowed: CPUSet([3])) == [3])
  }

  @Test func filePrefixes() {
    #expect(EALConfiguration.filePrefix(runDirectory: "/run/gw/") == "run-gw")
    #expect(
      EALConfiguration.filePrefix(runDirectory: "/tmp/a/gw1") != EALConfiguration.filePrefix(runDirectory: "/tmp/b/gw1")
    )
    let long = "/tmp/" + String(repeating: "x", count: 90)
    #expect(EALConfiguration.filePrefix(runDirectory: long).count < 32)
    #expect(EALConfiguration.filePrefix(runDirectory: long) != EALConfiguration.filePrefix(runDirectory: long + "y"))
    #expect(!EALConfiguration.filePrefix(runDirectory: "/").isEmpty)
  }

  static func error(_ workers: [Int], _ extra: [String] = []) -> EALError? {
    var configuration = EALConfiguration(workers: workers)
    configuration.extraArguments = extra
    do throws(EALError) {
      try configuration.validate(online: CPUSet([0, 1, 2, 3]), allowed: CPUSet([0, 1, 2]))
      return nil
    } catch { return error }
  }

  @Test func refuses() {
    #expect(Self.error([1, 2]) == nil)
    #expect(Self.error([]) == .noWorkers)
    #expect(Self.error([7]) == .noSuchCore(7, online: "0-3"))
    #expect(Self.error([-1]) == .noSuchCore(-1, online: "0-3"))
    #expect(Self.error([3]) == .coreNotAllowed(3, allowed: "0-2"))
    #expect(Self.error([1, 1]) == .duplicateCore(1))
    #expect(Self.error([1], ["-l", "0-1"]) == .reservedArgument("-l", instead: "workers:"))
    #expect(Self.error([1], ["--lcores=0"]) == .reservedArgument("--lcores=0", instead: "workers:"))
    #expect(Self.error([1], ["--no-huge"]) == .reservedArgument("--no-huge", instead: "hugepages:"))
    #expect(Self.error([1], ["--log-level=8", "--vdev=net_null0"]) == nil)
  }

  @Test func cpuLists() {
    #expect(CPUSet(list: "0-3,8,10-11")?.cores == [0, 1, 2, 3, 8, 10, 11])
    #expect(CPUSet([0, 1, 2, 5, 7, 8]).description == "0-2,5,7-8")
    for bad in ["x", "1-", "-1", "3-1", "0-99999", "1,,2x"] { #expect(CPUSet(list: bad) == nil, "\(bad)") }
    #expect(!CPUSet.online.cores.isEmpty && !CPUSet.allowed.cores.isEmpty)
  }
}

extension DPDKTests {
  @Suite struct EALTests {
    @Test func affinityOfOtherThreadsIsKept() async throws {
      let before = CPUSet.allowed
      _ = try TestEAL.started.get()
      #expect(CPUSet.allowed == before)
      let detached = await Task.detached { CPUSet.allowed }.value
      #expect(detached == before)
    }

    @Test func secondStartIsRefused() throws {
      _ = try TestEAL.started.get()
      var configuration = EALConfiguration(workers: TestEAL.workers)
      configuration.hugepages = false
      #expect(throws: EALError.alreadyStarted) { try EAL(configuration) }
    }

    @Test func workersRunPinned() throws {
      let eal = try TestEAL.started.get()
      #expect(eal.workers.map(\.core) == TestEAL.workers)
      for _ in 0..<2 {  // an lcore can be used again
        let contexts = eal.workers.map { _ in UnsafeMutablePointer<PinnedContext>.allocate(capacity: 1) }
        for (lcore, context) in zip(eal.workers, contexts) {
          context.initialize(to: PinnedContext())
          try lcore.launch(spin, context)
          #expect(throws: EALError.self) { try lcore.launch(spin, context) }
        }
        usleep(20_000)
        for (lcore, context) in zip(eal.workers, contexts) {
          #expect(lcore.isRunning && lcore.wait(seconds: 0.01) == nil)
          context.pointee.stop.store(true, ordering: .relaxed)
          #expect(lcore.wait(seconds: 10) == 7)
          #expect(context.pointee.lcore == lcore.id)
          #expect(context.pointee.core == lcore.core && context.pointee.cores == 1)
          #expect(context.pointee.turns.load(ordering: .relaxed) > 0)
          context.deinitialize(count: 1)
          context.deallocate()
        }
      }
    }

    @Test func runtimeDirectoryAndTelemetry() throws {
      let eal = try TestEAL.started.get()
      #expect(eal.runtimeDirectory.hasSuffix("/dpdk-tests-\(getpid())"))
      #expect(FileManager.default.fileExists(atPath: eal.telemetrySocket))
    }

    @Test func logIsCapturedAndBounded() throws {
      _ = try TestEAL.started.get()
      #expect(EALLog.shared.lines.contains { $0.text.contains("EAL") })
      let received = Mutex<[EALLog.Line]>([])
      let (_, problems) = EALLog.shared.collecting {
        EALLog.shared.append(.error, "one")
        EALLog.shared.append(.info, "two")
      }
      #expect(problems == ["one"])
      EALLog.shared.setHandler { line in received.withLock { $0.append(line) } }
      for index in 0..<2 * EALLog.capacity { EALLog.shared.append(.info, "line \(index)") }
      EALLog.shared.setHandler(nil)
      #expect(received.withLock { $0.count } >= 2 * EALLog.capacity)
      #expect(EALLog.shared.lines.count == EALLog.capacity)
    }
  }
}

struct PinnedContext: ~Copyable {
  let stop = Atomic(false)
  let turns = Atomic<UInt64>(0)
  var lcore: UInt32 = 0
  var core = -1
  var cores = 0
}

private func spin(_ context: UnsafeMutableRawPointer?) -> Int32 {
  guard let context = context?.assumingMemoryBound(to: PinnedContext.self) else { return -1 }
  context.pointee.lcore = rte_lcore_id()
  let allowed = CPUSet.allowed
  context.pointee.core = allowed.cores[0]
  context.pointee.cores = allowed.cores.count
  while !context.pointee.stop.load(ordering: .relaxed) {
    context.pointee.turns.wrappingAdd(1, ordering: .relaxed)
    rte_pause()
  }
  return 7
}
