import CCrypto
import CLayout
import DataPlane
import Foundation
import IPsec
import Wire

/// What a lookup costs: in bursts of 32 with prefetch, as workers do it, over the entries in random order.
struct ScaleLookup: Encodable {
  var entries: Int
  /// ns: the SAD, reading the SA's first line; the flow cache; the SPD, which is asked where the flow cache has nothing.
  var sad: Double
  var flow: Double
  var policy: Double
  /// Of the flows, those that the cache still had after all were put in.
  var flowHits: Double

  private static let burst = 32

  static func measure(entries: Int) throws -> ScaleLookup {
    let plan = ScalePlan(isInbound: true, algorithm: .aes128gcm)
    let database = SecurityDatabase(
      engine: BareEngine(), workers: 1, limits: DatabaseLimits(sas: entries, policies: entries),
      reclaimer: ImmediateReclaimer(), now: 1)
    for i in 0..<entries { try database.add(plan.sa(i), origin: 0) }
    let sad = best(entries, sadRound(database.tables.inbound))
    for i in 0..<entries { _ = try database.add(plan.policy(i), replacing: false, origin: 0) }
    let policy = best(entries, policyRound(database.tables.spd))
    let flows = FlowCache(flows: entries * 2)
    defer { flows.deallocate() }
    for i in 0..<entries {
      var key = key(i)
      flows.insert(&key, hash: FlowCache.hash(&key), generation: 1, policy: nil)
    }
    let hits = (0..<entries).count { i in
      var key = key(i)
      return flows.lookup(&key, hash: FlowCache.hash(&key), generation: 1) != nil
    }
    let flow = best(entries, flowRound(flows))
    return ScaleLookup(
      entries: entries, sad: sad, flow: flow, policy: policy, flowHits: Double(hits) / Double(entries))
  }

  @inline(__always)
  private static func key(_ i: Int) -> gw_flow_key {
    var key = gw_flow_key()
    key.source_low = UInt64(ScalePlan.firstFar + i)
    key.destination_low = ScalePlan.insideNumber
    key.source_port = UInt16(truncatingIfNeeded: 1024 + i % 1000)
    key.destination_port = 5001
    key.ip_protocol = 17
    key.family = 2
    key.direction = UInt8(GW_IN.rawValue)
    return key
  }

  /// ns a lookup, the best of some passes over numbers in random order.
  private static func best(_ entries: Int, _ round: (UnsafePointer<UInt32>) -> UInt64) -> Double {
    let count = max(1 << 20, entries) / burst * burst
    let order = UnsafeMutablePointer<UInt32>.allocate(capacity: count)
    defer { order.deallocate() }
    var random = RandomOrder()
    for i in 0..<count { order[i] = UInt32(random.next(below: entries)) }
    var least = Double.infinity
    var sum: UInt64 = 0
    for _ in 0..<12 {
      let start = DispatchTime.now().uptimeNanoseconds
      var first = 0
      while first < count {
        sum &+= round(order + first)
        first += burst
      }
      least = min(least, Double(DispatchTime.now().uptimeNanoseconds - start) / Double(count))
    }
    precondition(sum != 1, "nothing was found")
    return least
  }

  private static func sadRound(_ sad: InboundSAD) -> (UnsafePointer<UInt32>) -> UInt64 {
    let destination = UInt32(truncatingIfNeeded: ScalePlan.local.halves.1)
    return { numbers in
      var i = 0
      while i < burst {
        sad.prefetch(spi: Plan.spi(Int(numbers[i])).bigEndian, destination4: destination)
        i &+= 1
      }
      return withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<gw_sa>?.self, capacity: burst) { found in
        i = 0
        while i < burst {
          let sa = sad.lookup(
            spi: Plan.spi(Int(numbers[i])).bigEndian, destination4: destination, saProtocol: ESP.ipProtocol)
          crypto_prefetch(sa?.record)
          found[i] = sa?.record
          i &+= 1
        }
        var sum: UInt64 = 0
        i = 0
        while i < burst {
          sum &+= UInt64(found[i].unsafelyUnwrapped.pointee.serial)
          i &+= 1
        }
        return sum
      }
    }
  }

  private static func flowRound(_ flows: FlowCache) -> (UnsafePointer<UInt32>) -> UInt64 {
    { numbers in
      // The packet's key is at hand when a worker comes to look.
      withUnsafeTemporaryAllocation(of: (gw_flow_key, UInt64).self, capacity: burst) { wanted in
        var i = 0
        while i < burst {
          var key = key(Int(numbers[i]))
          let hash = FlowCache.hash(&key)
          flows.prefetch(hash)
          (wanted.baseAddress.unsafelyUnwrapped + i).initialize(to: (key, hash))
          i &+= 1
        }
        var sum: UInt64 = 0
        i = 0
        while i < burst {
          if let entry = flows.lookup(&wanted[i].0, hash: wanted[i].1, generation: 1) {
            sum &+= UInt64(entry.pointee.generation)
          }
          i &+= 1
        }
        return sum
      }
    }
  }

  private static func policyRound(_ spd: SPDReader) -> (UnsafePointer<UInt32>) -> UInt64 {
    { numbers in
      var sum: UInt64 = 0
      var i = 0
      while i < burst {
        var key = key(Int(numbers[i]))
        if let policy = spd.lookup(&key) { sum &+= UInt64(policy.pointee.index) }
        i &+= 1
      }
      return sum
    }
  }
}
