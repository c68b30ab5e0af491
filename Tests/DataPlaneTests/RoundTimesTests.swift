import Testing

@testable import DataPlane

@Suite struct RoundTimesTests {
  @Test("a bucket's ceiling is at or above what went into it, by 3 % at most")
  func ceilings() {
    for shift in 0..<64 {
      for value in [1 << shift, .max >> shift, 3 << shift] as [UInt64] {
        let ceiling = RoundTimes.ceiling(RoundTimes.bucket(value))
        #expect(ceiling >= value)
        #expect(Double(ceiling - value) <= Double(value) / 31)
      }
    }
  }

  @Test("what was recorded is read")
  func values() {
    let times = RoundTimes()
    for value in [5, 5, 1000, 1_000_000] as [UInt64] { times.record(value) }
    let values = times.values
    #expect(values.map(\.count) == [2, 1, 1])
    #expect(values[0].cycles == 5 && values[1].cycles >= 1000 && values[2].cycles < 1_040_000)
  }
}
