import CLayout
import Engines
import Foundation
import SeededRandom
import Testing
import Wire

@testable import IPsec

/// Costs of the tables, printed: `GW_BENCH=1`, release build.
@Suite(.serialized, .enabled(if: ProcessInfo.processInfo.environment["GW_BENCH"] != nil)) struct TablesBenchmark {
  private static func nanoseconds(_ rounds: Int, _ body: () -> Void) -> Double {
    var best = Double.infinity
    for _ in 0..<5 {
      let start = DispatchTime.now().uptimeNanoseconds
      body()
      best = min(best, Double(DispatchTime.now().uptimeNanoseconds - start) / Double(rounds))
    }
    return best
  }

  private static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

  @Test(arguments: [1, 1_000, 100_000, 1_000_000]) func sadLookup(count: Int) {
    var random = SeededGenerator(seed: 1)
    let sad = SAD(reclaimer: ImmediateReclaimer())
    let slab = Slab<gw_sa>()
    var spis: [UInt32] = []
    for _ in 0..<count {
      let sa = slab.allocate()
      let spi = UInt32.random(in: 256 ... .max, using: &random)
      sa.pointee.spi = spi.bigEndian
      sa.pointee.destination_low = 0x0a00_0001
      sa.pointee.sa_protocol = 50
      sa.pointee.flags = GW_SA_INBOUND.rawValue
      if sad.insert(sa) { spis.append(spi.bigEndian) }
    }
    let rounds = 1 << 20
    let order = (0..<rounds).map { _ in spis[Int.random(in: 0..<spis.count, using: &random)] }
    let reader = sad.inbound
    var hits = 0
    let dependent = order.withUnsafeBufferPointer { order in
      Self.nanoseconds(rounds) {
        var shift: UInt32 = 0
        for spi in order {
          let sa = reader.lookup(spi: spi &+ shift, destination4: 0x0a00_0001, saProtocol: 50)
          // The next look-up waits for this one.
          shift = sa == nil ? 1 : UInt32(truncatingIfNeeded: UInt(bitPattern: sa?.record)) & 1
          hits &+= sa == nil ? 0 : 1
        }
      }
    }
    let burst = order.withUnsafeBufferPointer { order in
      Self.nanoseconds(rounds) {
        var i = 0
        while i < rounds {
          for j in 0..<32 { reader.prefetch(spi: order[i + j], destination4: 0x0a00_0001) }
          for j in 0..<32 where reader.lookup(spi: order[i + j], destination4: 0x0a00_0001, saProtocol: 50) != nil {
            hits &+= 1
          }
          i += 32
        }
      }
    }
    #expect(hits == rounds * 10)
    Self.say(
      "SAD lookup, \(count) SAs: \(dependent) ns one after the other, \(burst) ns in prefetched bursts of 32; "
        + "table \(sad.footprint / max(count, 1)) bytes per SA")
  }

  @Test(arguments: [1, 100, 1_000, 100_000], [false, true]) func spdMiss(count: Int, randomLengths: Bool) {
    var random = SeededGenerator(seed: 2)
    let spd = SPD(reclaimer: ImmediateReclaimer())
    let slab = Slab<gw_policy>()
    // Overlapping: pairs of prefixes nested in 10/8 and 172.16/12, of a few or of all lengths, some with protocol and port.
    for index in 1...count {
      let lengths: [UInt8] = randomLengths ? Array(8...32) : [16, 20, 24, 28, 32]
      let source = IPPrefix(
        Sample.v4(0x0a00_0000 | .random(in: 0...0xff_ffff, using: &random)),
        length: lengths.randomElement(using: &random)!)!
      let destination = IPPrefix(
        Sample.v4(0xac10_0000 | .random(in: 0...0xf_ffff, using: &random)),
        length: max(12, lengths.randomElement(using: &random)!))!
      let port = UInt16.random(in: 1...1000, using: &random)
      let kind = Int.random(in: 0..<4, using: &random)
      let selector = Selector(
        source: source, destination: destination, ipProtocol: kind > 1 ? 6 : nil,
        destinationPorts: kind == 3 ? port...port : Selector.anyPort)
      let policy = slab.allocate()
      policy.pointee.direction = 1
      policy.pointee.fill(selector)
      policy.pointee.rank = PolicyRank.rank(of: selector, order: UInt64(index))
      spd.insert(policy)
    }
    let rounds = 1 << 14
    let keys = (0..<rounds).map { _ in
      Sample.key(
        Sample.v4(0x0a00_0000 | .random(in: 0...0xff_ffff, using: &random)),
        Sample.v4(0xac10_0000 | .random(in: 0...0xf_ffff, using: &random)))
    }
    let reader = spd.reader
    var hits = 0
    let cost = keys.withUnsafeBufferPointer { keys in
      Self.nanoseconds(rounds) {
        for i in 0..<rounds where reader.lookup(keys.baseAddress! + i) != nil { hits &+= 1 }
      }
    }
    Self.say(
      "SPD lookup, \(count) policies\(randomLengths ? " of all lengths" : ""): \(cost) ns, "
        + "\(hits * 100 / rounds / 5) % found; table \(spd.footprint / count) bytes per policy")
  }

  private static func residentBytes() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return (Int(text.split(separator: " ")[1]) ?? 0) * 4096
  }

  @Test func installAndDelete() throws {
    let count = 1_000_000
    let database = SecurityDatabase(
      engine: FakeEngine(), workers: 2, limits: DatabaseLimits(sas: count, policies: 1000),
      reclaimer: ImmediateReclaimer(), now: 1000)
    let before = Self.residentBytes()
    var sa = TestDatabase.sa(1000)
    func parameters(_ number: Int) -> SAParameters {
      sa.spi = UInt32(1000 + number)
      sa.requestID = UInt32(number)
      sa.direction = number % 2 == 0 ? .out : .in
      sa.hard.addTime = 3600
      return sa
    }
    var start = DispatchTime.now().uptimeNanoseconds
    for number in 0..<count { try database.add(parameters(number), origin: 0) }
    var seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("SA install: \(Int(Double(count) / seconds)) a second")
    Self.say(
      "SA memory: \((Self.residentBytes() - before) / count) bytes each, of them 64 the fake key schedule; "
        + "SAParameters \(MemoryLayout<SAParameters>.size) bytes")
    start = DispatchTime.now().uptimeNanoseconds
    for second in 1001...1010 as ClosedRange<UInt64> { database.tick(now: second) }
    seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("tick with \(count) SAs: \(seconds * 100) ms")
    start = DispatchTime.now().uptimeNanoseconds
    for number in 0..<count { try database.delete(parameters(number).identifier, origin: 0) }
    seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("SA delete: \(Int(Double(count) / seconds)) a second")
  }

  @Test func policyInstall() throws {
    let count = 100_000
    let database = SecurityDatabase(
      engine: FakeEngine(), workers: 2, limits: DatabaseLimits(sas: 10, policies: count),
      reclaimer: ImmediateReclaimer(), now: 1000)
    let before = Self.residentBytes()
    var start = DispatchTime.now().uptimeNanoseconds
    for number in 0..<count {
      let selector = Selector(
        source: IPPrefix(Sample.v4(0x0a00_0000 + UInt32(number) << 4), length: 28)!,
        destination: IPPrefix("172.20.0.0/16")!)
      _ = try database.add(TestDatabase.flow(selector), replacing: false, origin: 0)
    }
    var seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("policy install: \(Int(Double(count) / seconds)) a second")
    Self.say("policy memory: \((Self.residentBytes() - before) / count) bytes each")
    start = DispatchTime.now().uptimeNanoseconds
    try database.add(TestDatabase.sa(1000), origin: 0)
    seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("an SA that \(count) policies take up: \(seconds * 1e3) ms")
    start = DispatchTime.now().uptimeNanoseconds
    database.flushPolicies(owner: nil, origin: 0)
    seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    Self.say("policy delete: \(Int(Double(count) / seconds)) a second")
  }
}
