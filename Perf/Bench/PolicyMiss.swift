import CLayout
import Engines
import Foundation
import IPsec
import Wire

/// What a look-up in the SPD costs when the flow cache did not know the flow, by the number of policies, over sets that
/// overlap, for packets of random addresses.
enum PolicyMiss {
  /// The policies of a set and the packets that ask for them.
  enum PolicySet: String, CaseIterable {
    /// Pairs of prefixes of every length, nested in 10/8 and 172.16/12: hundreds match a packet at 100,000.
    case nested
    /// One network to many others, as a concentrator has it.
    case hub
    /// Numeric priorities as strongSwan gives them, by the lengths of both prefixes.
    case prioritised
    /// Pairs of prefixes of IPv6, /40 to /64.
    case nested6

    var isV6: Bool { self == .nested6 }

    func source<R: RandomNumberGenerator>(_ random: inout R) -> IPAddress {
      if isV6 { return Self.v6(0x2001_0db8_0000_0000, .random(in: 0...0xff_ffff, using: &random)) }
      return Self.v4(0x0a00_0000 | .random(in: 0...(self == .hub ? 0xffff : 0xff_ffff), using: &random))
    }

    func destination<R: RandomNumberGenerator>(_ random: inout R) -> IPAddress {
      isV6
        ? Self.v6(0x2001_0db9_0000_0000, .random(in: 0...0xf_ffff, using: &random))
        : Self.v4(0xac10_0000 | .random(in: 0...0xf_ffff, using: &random))
    }

    func policy<R: RandomNumberGenerator>(_ random: inout R) -> PolicyParameters {
      let low: UInt8 = isV6 ? 32 : 0
      let sourceLength = self == .hub ? 16 : low + .random(in: 8...32, using: &random)
      let destinationLength = low + .random(in: self == .hub ? 22...32 : 12...32, using: &random)
      let port = UInt16.random(in: 1...1000, using: &random)
      let kind = Int.random(in: 0..<4, using: &random)
      let selector = Selector(
        source: IPPrefix(source(&random), length: sourceLength)!,
        destination: IPPrefix(destination(&random), length: destinationLength)!, ipProtocol: kind > 1 ? 6 : nil,
        destinationPorts: kind == 3 ? port...port : Selector.anyPort)
      let template = SATemplate(source: IPAddress("198.51.100.1")!, destination: IPAddress("198.51.100.2")!)
      var policy = PolicyParameters(direction: .out, selector: selector, templates: [template])
      if self == .prioritised {
        policy.priority = 400_000 - UInt32(sourceLength + destinationLength) * 512 - (kind > 1 ? 256 : 0)
      }
      return policy
    }

    private static func v4(_ raw: UInt32) -> IPAddress { .v4(IPv4Address(rawValue: raw)) }
    private static func v6(_ high: UInt64, _ net: UInt64) -> IPAddress { .v6(IPv6Address(high: high | net, low: 1)) }
  }

  /// One point of the table.
  struct Outcome: Codable {
    var set: String
    var policies: Int
    /// Nanoseconds a look-up: of each packet's fastest pass, and the median of all passes.
    var minimum: Double
    var median: Double
    /// The same minimum as workers ask: 16 side by side, brought near before.
    var side: Double
    var found: Double
    /// The tables that workers read; and everything, with records, indices and the control thread's own, as the process
    /// grew.
    var tableBytes: Double
    var allBytes: Double
    var loadSeconds: Double
    /// The policy for any to any added among the others and removed: it touches the most.
    var changeMicroseconds: Double
  }

  static func run(_ counts: [Int], json: Bool) throws {
    if !json {
      print("set          policies   ns min   ns med  by 16   found   table B   all B   load s   any to any µs")
    }
    for set in PolicySet.allCases {
      for count in counts {
        let outcome = try measure(set, count)
        print(json ? String(decoding: try JSONEncoder().encode(outcome), as: UTF8.self) : row(outcome))
        fflush(nil)
      }
    }
  }

  private static func row(_ outcome: Outcome) -> String {
    outcome.set.padding(toLength: 12, withPad: " ", startingAt: 0)
      + String(
        format: "%9d %8.1f %8.1f %6.1f %6.0f%% %9.0f %7.0f %8.2f %15.1f", outcome.policies, outcome.minimum,
        outcome.median,
        outcome.side, outcome.found * 100, outcome.tableBytes, outcome.allBytes, outcome.loadSeconds,
        outcome.changeMicroseconds)
  }

  private static func measure(_ set: PolicySet, _ count: Int) throws -> Outcome {
    var random = Numbers(state: 1)
    let reclaimer = ImmediateReclaimer()
    let before = residentBytes()
    let database = SecurityDatabase(
      engine: OpenSSLEngine(), workers: 1, limits: DatabaseLimits(sas: 16, policies: count + 1), reclaimer: reclaimer,
      now: 1)
    var policies: [PolicyParameters] = []
    policies.reserveCapacity(count)
    for _ in 0..<count { policies.append(set.policy(&random)) }
    let list = residentBytes() - before
    var start = now()
    for policy in policies { _ = try database.add(policy, replacing: true, origin: 0) }
    let load = Double(now() - start) / 1e9
    let standing = database.policyCount()
    let bytes = Double(residentBytes() - before - list) / Double(standing)
    let costs = lookUp(database.tables.spd, set, &random)
    var extra = set.policy(&random)
    let any = IPPrefix(set.isV6 ? "::/0" : "0.0.0.0/0")!
    extra.selector = Selector(source: any, destination: any)
    start = now()
    for _ in 0..<50 {
      let index = try database.add(extra, replacing: false, origin: 0)
      try database.deletePolicy(index: index, origin: 0)
    }
    let change = Double(now() - start) / 50e3
    return Outcome(
      set: set.rawValue, policies: standing, minimum: costs.minimum, median: costs.median, side: costs.side,
      found: costs.found, tableBytes: Double(database.spd.footprint) / Double(standing), allBytes: bytes,
      loadSeconds: load,
      changeMicroseconds: change)
  }

  private static func lookUp<R: RandomNumberGenerator>(
    _ spd: SPDReader, _ set: PolicySet, _ random: inout R
  ) -> (minimum: Double, median: Double, side: Double, found: Double) {
    let (run, runs, passes) = (256, 256, 11)
    let keys = (0..<run * runs).map { _ in key(set.source(&random), set.destination(&random)) }
    var least = Array(repeating: Double.infinity, count: runs)
    var leastSide = least
    var all: [Double] = []
    var found = 0
    keys.withUnsafeBufferPointer { keys in
      for _ in 0..<passes {
        for index in 0..<runs {
          let first = keys.baseAddress! + index * run
          let start = now()
          for place in 0..<run where spd.lookup(first + place) != nil { found &+= 1 }
          let cost = Double(now() - start) / Double(run)
          least[index] = min(least[index], cost)
          all.append(cost)
        }
        for index in 0..<runs {
          let start = now()
          found &+= lookUpSideBySide(spd, keys.baseAddress! + index * run, run)
          leastSide[index] = min(leastSide[index], Double(now() - start) / Double(run))
        }
      }
    }
    return (
      least.reduce(0, +) / Double(runs), all.sorted()[all.count / 2], leastSide.reduce(0, +) / Double(runs),
      Double(found) / Double(run * runs * passes * 2)
    )
  }

  private static func lookUpSideBySide(_ spd: SPDReader, _ keys: UnsafePointer<gw_flow_key>, _ count: Int) -> Int {
    var found = 0
    withUnsafeTemporaryAllocation(of: SPDPrefetch.self, capacity: 16) { near in
      for first in stride(from: 0, to: count, by: 16) {
        for place in 0..<16 {
          near.initializeElement(at: place, to: SPDPrefetch())
          near[place].begin(spd, keys + first + place, direction: GW_OUT)
        }
        for step in 1...3 { for place in 0..<16 { near[place].advance(keys + first + place, step: step) } }
        for place in 0..<16 where spd.lookup(keys + first + place) != nil { found &+= 1 }
      }
    }
    return found
  }

  private static func key(_ source: IPAddress, _ destination: IPAddress) -> gw_flow_key {
    var key = gw_flow_key()
    (key.source_high, key.source_low) = source.halves
    (key.destination_high, key.destination_low) = destination.halves
    key.source_port = 1000
    key.destination_port = 80
    key.ip_protocol = 6
    key.family = source.family.rawValue
    key.direction = UInt8(GW_OUT.rawValue)
    return key
  }

  private static func now() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

  private static func residentBytes() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
  }

  /// The same numbers every time (SplitMix64).
  private struct Numbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var mixed = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
      mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
      return mixed ^ mixed >> 31
    }
  }
}
