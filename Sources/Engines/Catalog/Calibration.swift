import CCrypto
import Synchronization

/// What one kind of transform costs in one direction, by engine and size.
public struct CalibrationRow: Sendable {
  public let kind: TransformKind
  public let direction: CryptoDirection
  /// Of every engine that runs the kind, nanoseconds a packet by size class.
  public let nanoseconds: [(engine: String, bySize: [Double])]
  /// The engine picked, by size class.
  public let picked: [String]
}

/// Measures engines against each other.
struct Calibration {
  /// Jobs at a time, as a busy worker has them.
  private static let burst = 32
  /// An engine takes a size from the overall winner only if it is that much faster there: two keyed sessions cost
  /// cache, and cut bursts.
  private static let margin = 0.95

  /// For each measurement, in time that the engines had at their fastest: what other programs take does not shorten it.
  let budget: Duration

  /// Nil if none of the engines runs the kind.
  func measure(_ kind: TransformKind, _ direction: CryptoDirection, _ engines: [any CryptoEngine]) -> CalibrationRow? {
    let sample = kind.sample
    let able = engines.filter { $0.supports(sample) }
    var bySize = [[Double]](repeating: [], count: able.count)
    for size in SizeClass.allCases {
      let costs = measure(sample, direction, size.sampleLength, able)
      guard costs.count == able.count else { return nil }
      for (index, cost) in costs.enumerated() { bySize[index].append(cost) }
    }
    guard !able.isEmpty else { return nil }
    // Relative to the best at each size, so that no size outweighs another.
    let best = SizeClass.allCases.map { size in bySize.map { $0[size.rawValue] }.min() ?? 1 }
    let overall = able.indices.min { total(bySize[$0], best) < total(bySize[$1], best) } ?? 0
    let picked = SizeClass.allCases.map { size in
      let fastest = able.indices.min { bySize[$0][size.rawValue] < bySize[$1][size.rawValue] } ?? overall
      let wins = bySize[fastest][size.rawValue] < bySize[overall][size.rawValue] * Self.margin
      return able[wins ? fastest : overall].name
    }
    return CalibrationRow(
      kind: kind, direction: direction,
      nanoseconds: able.indices.map { (able[$0].name, bySize[$0]) }, picked: picked)
  }

  private func total(_ costs: [Double], _ best: [Double]) -> Double { zip(costs, best).reduce(0) { $0 + $1.0 / $1.1 } }

  /// The fastest burst of each engine in nanoseconds a packet; the engines take turns, so that a busy moment of the
  /// machine hits all. Empty if a session failed.
  private func measure(
    _ sample: CryptoTransform, _ direction: CryptoDirection, _ length: Int, _ engines: [any CryptoEngine]
  ) -> [Double] {
    var sessions: [CryptoSession] = []
    defer { for session in sessions { session.destroy() } }
    guard let seal = try? engines.first?.makeSession(sample, direction: .seal, workers: 1) else { return [] }
    sessions.append(seal)
    for engine in engines {
      guard let session = try? engine.makeSession(sample, direction: direction, workers: 1) else { return [] }
      sessions.append(session)
    }
    let burst = SampleBurst(sample, textLength: length, count: Self.burst)
    var best = [Double](repeating: .infinity, count: engines.count)
    let clock = ContinuousClock()
    let enough = nanoseconds(budget) * Double(engines.count)
    var rounds = 0
    repeat {
      for index in engines.indices {
        // What is opened must be genuine, or an engine would stop at the ICV.
        if direction == .open, !burst.run(seal) { return [] }
        burst.aim(sessions[index + 1])
        let taken = clock.measure { sessions[index + 1].burst(burst.jobs, burst.count) }
        guard burst.haveSucceeded else { return [] }
        best[index] = min(best[index], nanoseconds(taken) / Double(Self.burst))
      }
      rounds += 1
    } while rounds < 4 || Double(rounds * Self.burst) * best.reduce(0, +) < enough
    return best
  }

  private func nanoseconds(_ duration: Duration) -> Double { duration / .nanoseconds(1) }
}
