import CDPDK
import DPDK
import DataPlane
import Foundation
import Histogram
import IPsec

/// SAs installed and deleted while workers carry traffic: how fast that goes, and how long the workers' rounds take
/// meanwhile.
struct ScaleChurn: Encodable {
  struct Phase: Encodable {
    var name: String
    /// SAs installed or deleted, a second.
    var changes: Int
    var rate: Double
    /// Longest time of the control thread in one millisecond's changes, in microseconds.
    var longestBatch: Double
    /// ns of a worker's round of at most 32 packets.
    var percentiles: [String: UInt64]
    var rounds: UInt64
    /// ns of a worker's busy time a packet.
    var cost: Double
    /// (ns, share of the rounds that took no longer).
    var curve: [[Double]]
  }

  var sas: Int
  var standing: Int
  var direction: String
  var workers: Int
  var wanted: Int
  var phases: [Phase]
  var drops: String

  static func measure(_ settings: ScaleSettings, rate: Int, standing: Int) throws -> ScaleChurn {
    let churn = max(1000, rate) * 3
    let rig = try ScaleRig(settings, more: standing + churn)
    for i in 0..<standing { try rig.database.add(rig.plan.sa(1_000_000 + i), origin: 0) }
    let path = NSTemporaryDirectory() + "/gwbench-\(getpid()).pcap"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try rig.writeCapture(to: path, length: 64)
    return try rig.run(device: rig.replayDevice(path), before: { _ in }) { dataPlane in
      usleep(500_000)
      dataPlane.shared.pointee.timing.store(true, ordering: .relaxed)
      let base = 3_000_000
      let plan = rig.plan
      let phases = [
        phase("quiet", rig, dataPlane, count: churn, rate: rate) { _ in },
        phase("install", rig, dataPlane, count: churn, rate: rate) {
          try? rig.database.add(plan.sa(base + $0), origin: 0)
        },
        phase("delete", rig, dataPlane, count: churn, rate: rate) {
          try? rig.database.delete(plan.sa(base + $0).identifier, origin: 0)
        },
        phase("install, at most", rig, dataPlane, count: churn, rate: 0) {
          try? rig.database.add(plan.sa(base + $0), origin: 0)
        },
        phase("delete, at most", rig, dataPlane, count: churn, rate: 0) {
          try? rig.database.delete(plan.sa(base + $0).identifier, origin: 0)
        },
      ]
      precondition(rig.database.saCount() == settings.sas + standing, "SAs could not be installed or deleted")
      return ScaleChurn(
        sas: settings.sas, standing: standing, direction: settings.isInbound ? "in" : "out",
        workers: settings.cores.count, wanted: rate, phases: phases, drops: dataPlane.dropsText)
    }
  }

  /// Does `change` with 0..<count, `rate` of them a second (0: as fast as it goes), by the millisecond, as the control
  /// thread would: what is freed is freed in between.
  private static func phase(
    _ name: String, _ rig: ScaleRig, _ dataPlane: DataPlane, count: Int, rate: Int, _ change: (Int) -> Void
  ) -> Phase {
    let before = RoundReading(dataPlane)
    let work = costs(dataPlane)
    let start = DispatchTime.now().uptimeNanoseconds
    var done = 0
    var batch = 0
    var longest: UInt64 = 0
    while done < count {
      let began = DispatchTime.now().uptimeNanoseconds
      let end = min(count, rate == 0 ? done + 100 : (batch + 1) * rate / 1000)
      while done < end {
        change(done)
        done += 1
      }
      rig.quiescence.reclaim()
      batch += 1
      let now = DispatchTime.now().uptimeNanoseconds
      longest = max(longest, now - began)
      let due = start + UInt64(batch) * 1_000_000
      if rate != 0, now < due { usleep(UInt32((due - now) / 1000)) }
    }
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    while rig.quiescence.pending > 0 { rig.quiescence.reclaim() }
    let now = costs(dataPlane)
    let hertz = Double(rte_get_tsc_hz())
    let histogram = RoundReading(dataPlane).histogram(since: before)
    var percentiles: [String: UInt64] = ["max": histogram.maxRecorded]
    for percentile in [50, 90, 99, 99.9, 99.99, 99.999] {
      percentiles["\(percentile)"] = histogram.valueAtPercentile(percentile)
    }
    let curve = histogram.percentiles(ticksPerHalfDistance: 4).map {
      [Double($0.value), $0.percentile / 100]
    }
    return Phase(
      name: name, changes: count, rate: Double(count) / seconds, longestBatch: Double(longest) / 1000,
      percentiles: percentiles, rounds: histogram.totalCount,
      cost: Double(now.busy - work.busy) / Double(now.packets - work.packets) / hertz * 1e9, curve: curve)
  }

  private static func costs(_ dataPlane: DataPlane) -> (packets: UInt64, busy: UInt64) {
    (0..<dataPlane.workerCount).reduce(into: (0, 0)) { sum, index in
      let one = dataPlane.workerStatistics(index)
      sum.0 += one.packets
      sum.1 += one.busyCycles
    }
  }
}
