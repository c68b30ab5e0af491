import CDPDK
import DataPlane
import Histogram

/// How long all workers' rounds with a full burst have taken until one moment.
struct RoundReading {
  private var counts: [UInt64: UInt64] = [:]

  init(_ dataPlane: DataPlane) {
    for index in 0..<dataPlane.workerCount {
      for (cycles, count) in dataPlane.roundTimes(index) { counts[cycles, default: 0] += count }
    }
  }

  /// In ns: the rounds since `before`.
  func histogram(since before: RoundReading) -> Histogram<UInt64> {
    let hertz = Double(rte_get_tsc_hz())
    var histogram = Histogram<UInt64>(highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
    for (cycles, count) in counts {
      let more = count - (before.counts[cycles] ?? 0)
      if more > 0 { _ = histogram.record(UInt64(Double(cycles) / hertz * 1e9), count: more) }
    }
    return histogram
  }

  /// In ns; nil: there were none.
  func median(since before: RoundReading) -> Double? {
    let histogram = histogram(since: before)
    return histogram.totalCount == 0 ? nil : Double(histogram.valueAtPercentile(50))
  }
}
