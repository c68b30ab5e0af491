import Foundation
import Histogram

/// What `gwbench latency` prints. Times in ns, from a packet's intended time of sending to its arrival.
struct LatencyResult: Encodable {
  var algorithm: String
  var engine: String
  var size: String
  var cores: [Int]
  var queue: Int
  /// The highest rate without loss, packets a second.
  var rate: Double
  var trials: [RateSearch.Trial]
  var loads: [Load] = []
  /// Of the whole run, the search's overload included.
  var drops: [String: UInt64] = [:]

  struct Load: Encodable {
    var percent: Double
    var rate: Double
    var gateways = Measurement()
    /// Generator to generator: what pacing, timing and the machine add.
    var direct = Measurement()
  }

  struct Measurement: Encodable {
    var all = Series()
    /// Those in which others did not have the cores, as the kernel counts; it knows nothing of latencies.
    var quiet = Series()

    mutating func add(_ done: ChainRun, _ latencies: UnsafeMutableBufferPointer<UInt32>) {
      let histogram = Series.histogram(done.generator, latencies)
      all.add(done, histogram)
      if done.isQuiet { quiet.add(done, histogram) }
    }

    mutating func finish() {
      all.finish()
      quiet.finish()
    }
  }

  /// Rounds at one rate: all in one histogram, and percentiles of each.
  struct Series: Encodable {
    var sent = 0
    var lost = 0
    var disordered = 0
    var all = Percentiles()
    var rounds: [Round] = []
    /// (ns, part of the packets that took so long at the most), from fast to slow.
    var distribution: [[Double]] = []
    private var histogram = Self.empty

    private static var empty: Histogram<UInt64> {
      Histogram(highestTrackableValue: 10_000_000_000, numberOfSignificantValueDigits: .three)
    }

    private enum CodingKeys: CodingKey { case sent, lost, disordered, all, rounds, distribution }

    static func histogram(
      _ done: PacedGenerator, _ latencies: UnsafeMutableBufferPointer<UInt32>
    ) -> Histogram<UInt64> {
      var histogram = empty
      for index in 0..<min(done.received, latencies.count) {
        _ = histogram.record(UInt64(Double(latencies[index]) * 1e9 / Double(done.hertz)))
      }
      return histogram
    }

    mutating func add(_ done: ChainRun, _ one: Histogram<UInt64>) {
      let generator = done.generator
      let nanoseconds = 1e9 / Double(generator.hertz)
      histogram.add(one)
      sent += generator.packets
      lost += done.lost
      disordered += generator.disordered
      rounds.append(
        Round(
          latency: Percentiles(one), lost: done.lost, waited: done.waited,
          latestSending: Double(generator.longestDelay) * nanoseconds,
          longestGap: Double(generator.longestGap) * nanoseconds,
          stolen: Double(generator.stolen) / Double(max(1, generator.duration))))
    }

    mutating func finish() {
      all = Percentiles(histogram)
      distribution = histogram.percentiles(ticksPerHalfDistance: 5).map { [Double($0.value), $0.percentile / 100] }
    }
  }

  struct Round: Encodable {
    var latency: Percentiles
    var lost: Int
    /// ns that others had the cores.
    var waited: UInt64
    /// Of the generator: how late it sent at the worst, how long its core was away at the longest, and which part of the
    /// time in all.
    var latestSending: Double
    var longestGap: Double
    var stolen: Double
  }

  struct Percentiles: Encodable {
    var minimum: UInt64 = 0
    var mean = 0.0
    var p50: UInt64 = 0
    var p90: UInt64 = 0
    var p99: UInt64 = 0
    var p999: UInt64 = 0
    var p9999: UInt64 = 0
    var maximum: UInt64 = 0

    init() {}

    init(_ histogram: Histogram<UInt64>) {
      guard histogram.totalCount > 0 else { return }
      minimum = histogram.min
      mean = histogram.mean
      p50 = histogram.valueAtPercentile(50)
      p90 = histogram.valueAtPercentile(90)
      p99 = histogram.valueAtPercentile(99)
      p999 = histogram.valueAtPercentile(99.9)
      p9999 = histogram.valueAtPercentile(99.99)
      maximum = histogram.max
    }
  }
}
