import Testing

@testable import DataPlane

/// Handing is done where it is cheaper, and tried again now and then.
@Suite struct HandoffGaugeTests {
  /// The share of `rounds` rounds of 64 packets in which bursts were handed.
  static func share(_ gauge: inout HandoffGauge, rounds: Int, handing: UInt64, alone: UInt64) -> Double {
    var handed = 0
    for _ in 0..<rounds {
      handed += gauge.isHanding ? 1 : 0
      gauge.note(cycles: 64 * (gauge.isHanding ? handing : alone), packets: 64)
    }
    return Double(handed) / Double(rounds)
  }

  @Test func theCheaperWayIsGone() {
    var gauge = HandoffGauge()
    #expect(Self.share(&gauge, rounds: 100_000, handing: 300, alone: 500) > 0.9)
    var other = HandoffGauge()
    #expect(Self.share(&other, rounds: 100_000, handing: 700, alone: 500) < 0.1)
  }

  @Test func aChangeIsNoticed() {
    var gauge = HandoffGauge()
    _ = Self.share(&gauge, rounds: 100_000, handing: 700, alone: 500)
    _ = Self.share(&gauge, rounds: 10_000, handing: 300, alone: 500)
    #expect(Self.share(&gauge, rounds: 100_000, handing: 300, alone: 500) > 0.9)
    _ = Self.share(&gauge, rounds: 10_000, handing: 700, alone: 500)
    #expect(Self.share(&gauge, rounds: 100_000, handing: 700, alone: 500) < 0.1)
  }

  @Test func roundsWithoutPacketsAreHarmless() {
    var gauge = HandoffGauge()
    for _ in 0..<100_000 { gauge.note(cycles: 10, packets: 0) }
    #expect(gauge.isHanding)
  }
}
