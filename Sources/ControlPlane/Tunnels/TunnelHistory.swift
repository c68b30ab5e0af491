import ControlAPI
import IPsec

/// What passed through a tunnel in each of the last 60 seconds. It takes a kilobyte; tunnels without traffic have none.
struct TunnelHistory {
  static let seconds = 60

  /// In packets, in bits, out packets, out bits a second.
  private var ring: [SIMD4<Float>] = []
  /// Of the next second.
  private var place = 0
  /// Seconds in a row without traffic.
  private var silence = 0
  private var last: (received: TrafficCount, sent: TrafficCount)?
  private var lastTime: Double = 0

  /// The counts as they are now. Late samples fill the seconds that they are late by.
  mutating func add(_ received: TrafficCount, _ sent: TrafficCount, now: Double) {
    guard let before = last, now > lastTime else {
      if last == nil || now < lastTime { (last, lastTime) = ((received, sent), now) }
      return
    }
    let time = now - lastTime
    guard time >= 0.5 else { return }
    let (came, went) = (received - before.received, sent - before.sent)
    (last, lastTime) = ((received, sent), now)
    let isSilent = came.packets == 0 && went.packets == 0
    if isSilent, ring.isEmpty { return }
    if ring.isEmpty {
      ring = Array(repeating: .zero, count: Self.seconds)
      place = 0
    }
    let rate = SIMD4(
      Float(Double(came.packets) / time), Float(Double(came.bytes) * 8 / time), Float(Double(went.packets) / time),
      Float(Double(went.bytes) * 8 / time))
    let count = min(Self.seconds, max(1, Int(time.rounded())))
    for _ in 0..<count {
      ring[place] = rate
      place = (place + 1) % Self.seconds
    }
    silence = isSilent ? silence + count : 0
    if silence >= Self.seconds { ring = [] }
  }

  var rates: TunnelStatus.Rates {
    var rates = TunnelStatus.Rates()
    guard !ring.isEmpty else { return rates }
    rates.second = mean(of: 1)
    rates.tenSeconds = mean(of: 10)
    rates.minute = mean(of: Self.seconds)
    return rates
  }

  /// Bits a second in both directions, of the last second.
  var bitsPerSecond: Double {
    guard !ring.isEmpty else { return 0 }
    let last = ring[(place + Self.seconds - 1) % Self.seconds]
    return Double(last[1]) + Double(last[3])
  }

  /// Bits a second in both directions, the last second last.
  var bits: [Double] {
    guard !ring.isEmpty else { return [] }
    return (0..<Self.seconds).map { index in
      let one = ring[(place + index) % Self.seconds]
      return (Double(one[1]) + Double(one[3])).rounded()
    }
  }

  private func mean(of count: Int) -> TunnelStatus.Rate {
    var sum = SIMD4<Double>.zero
    for index in 1...count { sum += SIMD4<Double>(ring[(place + Self.seconds - index) % Self.seconds]) }
    sum /= Double(count)
    return TunnelStatus.Rate(
      inPacketsPerSecond: sum[0], inBitsPerSecond: sum[1], outPacketsPerSecond: sum[2], outBitsPerSecond: sum[3])
  }
}
