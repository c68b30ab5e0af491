import CLayout
import Foundation
import SeededRandom
import Synchronization
import Testing
import Wire

@testable import IPsec

@Suite struct SADTests {
  private struct Name: Hashable {
    var spi: UInt32
    var destination: IPAddress
    var saProtocol: UInt8
  }

  private static func randomName(_ random: inout SeededGenerator) -> Name {
    // Few values, so that names collide in all but one part.
    let destination =
      Bool.random(using: &random)
      ? Sample.v4(.random(in: 1...3, using: &random))
      : Sample.v6(.random(in: 1...2, using: &random), .random(in: 1...2, using: &random))
    return Name(
      spi: .random(in: 256...700, using: &random), destination: destination,
      saProtocol: Bool.random(using: &random) ? 50 : 51)
  }

  /// Inserts, deletes and look-ups by chance, with grace periods that end by chance, against a dictionary.
  @Test func agreesWithADictionary() {
    var random = SeededGenerator()
    let reclaimer = ManualReclaimer()
    let sad = SAD(reclaimer: reclaimer)
    var model: [Name: UnsafeMutablePointer<gw_sa>] = [:]
    for _ in 0..<60_000 {
      let name = Self.randomName(&random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<4:
        let sa = Sample.sa(spi: name.spi, destination: name.destination, saProtocol: name.saProtocol)
        let isNew = model[name] == nil
        if sad.insert(sa) != isNew { Issue.record("seed \(random.seed): insert \(name)") }
        if isNew { model[name] = sa } else { UnsafeMutableRawPointer(sa).deallocate() }
      case 4..<7:
        guard let sa = model.removeValue(forKey: name) else { continue }
        let removed = sad.remove(sa) { UnsafeMutableRawPointer(sa).deallocate() }
        if !removed { Issue.record("seed \(random.seed): remove \(name)") }
      case 7: reclaimer.pass()
      default: break
      }
      let asked = Self.randomName(&random)
      let found = sad.lookup(spi: asked.spi, destination: asked.destination, saProtocol: asked.saProtocol)
      if found != model[asked] { Issue.record("seed \(random.seed): lookup \(asked)") }
    }
    #expect(sad.count == model.count)
    for (name, sa) in model {
      #expect(sad.lookup(spi: name.spi, destination: name.destination, saProtocol: name.saProtocol) == sa)
    }
  }

  /// Long churn at one size: searches stay short and the table does not grow.
  @Test func churnLeavesNoTraces() {
    let sad = SAD(reclaimer: ImmediateReclaimer())
    var standing = (0..<1000).map { Sample.sa(spi: 256 + $0, destination: Sample.v4(1)) }
    for sa in standing { #expect(sad.insert(sa)) }
    let footprint = sad.footprint
    for round in 0..<100_000 {
      let sa = standing[round % 1000]
      #expect(sad.remove(sa) == true)
      UnsafeMutableRawPointer(sa).deallocate()
      standing[round % 1000] = Sample.sa(spi: UInt32(10_000 + round), destination: Sample.v4(1))
      #expect(sad.insert(standing[round % 1000]) == true)
    }
    #expect(sad.footprint == footprint)
    #expect(sad.count == 1000)
    for sa in standing {
      #expect(sad.lookup(spi: UInt32(bigEndian: sa.pointee.spi), destination: Sample.v4(1), saProtocol: 50) == sa)
      UnsafeMutableRawPointer(sa).deallocate()
    }
  }

  @Test func replaceIsSeenAsOneOrTheOther() {
    let sad = SAD(reclaimer: ImmediateReclaimer())
    let (old, new) = (Sample.sa(spi: 999, destination: Sample.v4(7)), Sample.sa(spi: 999, destination: Sample.v4(7)))
    #expect(sad.insert(old))
    #expect(!sad.insert(new))
    #expect(sad.replace(old, by: new))
    #expect(!sad.replace(old, by: new))
    #expect(sad.lookup(spi: 999, destination: Sample.v4(7), saProtocol: 50) == new)
    #expect(sad.count == 1)
    UnsafeMutableRawPointer(old).deallocate()
    UnsafeMutableRawPointer(new).deallocate()
  }

  /// Each direction is found in its own table only; under one identity stands one SA of either.
  @Test func directionsAreApart() {
    let sad = SAD(reclaimer: ImmediateReclaimer())
    let destinations = [Sample.v4(7), Sample.v6(1, 2)]
    var all: [UnsafeMutablePointer<gw_sa>] = []
    func sample(_ destination: IPAddress, _ saProtocol: UInt8, _ flags: UInt32) -> UnsafeMutablePointer<gw_sa> {
      let sa = Sample.sa(spi: 999, destination: destination, saProtocol: saProtocol)
      sa.pointee.flags |= flags
      sa.pointee.source_low = 0x0a00_0009
      all.append(sa)
      return sa
    }
    func found(_ sa: UnsafeMutablePointer<gw_sa>, _ spi: UInt32, _ saProtocol: UInt8) -> [UnsafeMutablePointer<gw_sa>?]
    {
      let version: UInt8 = sa.pointee.flags & GW_SA_OUTER_V6.rawValue == 0 ? 4 : 6
      let (high, low) = (sa.pointee.destination_high, sa.pointee.destination_low)
      return [
        sad.inbound.lookup(
          spi: spi, version: version, destinationHigh: high, destinationLow: low, saProtocol: saProtocol)?.record,
        sad.outbound.lookup(
          spi: spi, version: version, destinationHigh: high, destinationLow: low, saProtocol: saProtocol),
      ]
    }
    for destination in destinations {
      for saProtocol in [UInt8(50), 51, 108] {
        let tunnel = GW_SA_TUNNEL.rawValue
        let out = sample(destination, saProtocol, tunnel)
        let inward = sample(destination, saProtocol, tunnel | GW_SA_INBOUND.rawValue)
        let spi = out.pointee.spi
        let number = SADReader.ipipSPI(sourceHigh: 0, sourceLow: 0x0a00_0009)
        #expect(sad.insert(out) && !sad.insert(inward))
        #expect(found(out, spi, saProtocol) == [nil, out] && found(out, number, 4) == [nil, nil])
        let changed = sample(destination, saProtocol, tunnel)
        #expect(sad.replace(out, by: changed) && found(out, spi, saProtocol) == [nil, changed])
        #expect(sad.lookup(spi: 999, destination: destination, saProtocol: saProtocol) == changed)
        #expect(sad.remove(changed) && sad.insert(inward) && !sad.insert(out))
        #expect(found(out, spi, saProtocol) == [inward, nil])
        // An inbound IPComp tunnel opens what was not compressed, too.
        #expect(found(out, number, 4) == [saProtocol == 108 ? inward : nil, nil])
        #expect(sad.remove(inward) && sad.count == 0 && found(out, number, 4) == [nil, nil])
      }
    }
    for sa in all { UnsafeMutableRawPointer(sa).deallocate() }
  }

  /// Readers find what stands all along, and never what is not what they asked for, while the writer churns and grows.
  @Test func readersAreUndisturbed() {
    let group = ReaderGroup(readers: 3)
    let sad = SAD(reclaimer: group)
    let permanent = (0..<512).map { Sample.sa(spi: 1_000_000 + UInt32($0), destination: Sample.v4(1)) }
    for sa in permanent { #expect(sad.insert(sa)) }
    let failures = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 1)
    failures.initialize(to: Atomic(0))
    nonisolated(unsafe) let shared = (failures: failures, permanent: permanent)
    let reader = sad.outbound
    group.start { number, round in
      for i in 0..<64 {
        let index = (round * 64 + i * 7 + number) % 512
        let spi = 1_000_000 + UInt32(index)
        if reader.lookup(spi: spi.bigEndian, destination4: 1, saProtocol: 50) != shared.permanent[index] {
          shared.failures.pointee.wrappingAdd(1, ordering: .relaxed)
        }
        let other = UInt32(256 + (round * 31 + i) % 4096)
        if let sa = reader.lookup(spi: other.bigEndian, destination4: 2, saProtocol: 50),
          sa.pointee.spi != other.bigEndian || sa.pointee.destination_low != 2
        {
          shared.failures.pointee.wrappingAdd(1, ordering: .relaxed)
        }
      }
    }
    var random = SeededGenerator()
    var standing: [UInt32: UnsafeMutablePointer<gw_sa>] = [:]
    for step in 0..<60_000 {
      let spi = UInt32.random(in: 256..<256 + 4096, using: &random)
      if let sa = standing.removeValue(forKey: spi) {
        _ = sad.remove(sa) {
          sa.pointee.spi = 0xdead
          UnsafeMutableRawPointer(sa).deallocate()
        }
      } else {
        let sa = Sample.sa(spi: spi, destination: Sample.v4(2))
        _ = sad.insert(sa)
        standing[spi] = sa
      }
      if step % 64 == 0 { group.reclaim() }
    }
    group.join()
    #expect(failures.pointee.load(ordering: .relaxed) == 0, "seed \(random.seed)")
    failures.deallocate()
  }
}

extension gw_policy_type {
  fileprivate var policyType: UInt8 { UInt8(rawValue) }
}

@Suite struct SPDTests {
  private struct Model {
    var policies: [(selector: Selector, direction: UInt8, policy: UnsafeMutablePointer<gw_policy>)] = []

    func lookup(_ key: gw_flow_key, _ source: IPAddress, _ destination: IPAddress) -> UnsafeMutablePointer<gw_policy>? {
      policies.filter { item in
        guard item.direction == key.direction, item.selector.source.contains(source),
          item.selector.destination.contains(destination),
          item.selector.ipProtocol == nil || item.selector.ipProtocol == key.ip_protocol
        else { return false }
        if key.opaque_ports != 0 {
          return item.selector.sourcePorts == Selector.anyPort && item.selector.destinationPorts == Selector.anyPort
        }
        return item.selector.sourcePorts.contains(key.source_port)
          && item.selector.destinationPorts.contains(key.destination_port)
      }.min { $0.policy.pointee.rank < $1.policy.pointee.rank }?.policy
    }

    /// Of those that name what the packet hides.
    func rankOfHidden(_ key: gw_flow_key, _ source: IPAddress, _ destination: IPAddress, hidesProtocol: Bool) -> UInt64
    {
      policies.filter { item in
        let namesPorts =
          item.selector.sourcePorts != Selector.anyPort || item.selector.destinationPorts != Selector.anyPort
        let namesProtocol = item.selector.ipProtocol != nil
        return item.direction == key.direction && item.selector.source.contains(source)
          && item.selector.destination.contains(destination) && (namesPorts || hidesProtocol && namesProtocol)
          && (hidesProtocol || !namesProtocol || item.selector.ipProtocol == key.ip_protocol)
      }.map(\.policy.pointee.rank).min() ?? .max
    }

    func protects(_ source: IPAddress) -> Bool {
      policies.contains {
        let type = UInt32($0.policy.pointee.type)
        return $0.direction == 1 && $0.selector.source.contains(source) && type != GW_BYPASS.rawValue
          && type != GW_DENY.rawValue
      }
    }
  }

  /// Addresses and prefixes from a small corner, so that they overlap.
  private static func address(_ isV6: Bool, _ random: inout SeededGenerator) -> IPAddress {
    let low = UInt32.random(in: 0...15, using: &random)
    return isV6
      ? Sample.v6(0x2001_0db8_0000_0000 | UInt64(low & 3), UInt64(low) << 60 | UInt64(low))
      : Sample.v4(0x0a00_0000 | (low & 12) << 14 | low)
  }

  /// What the policies of a run have in common.
  enum Kind: CaseIterable, Sendable {
    /// A few lengths of prefixes.
    case fewLengths
    /// All lengths.
    case allLengths
    /// So few prefixes that each pair has dozens of policies by protocol and ports.
    case fewPairs
    /// Prefixes with many others below them, most with numeric priorities.
    case manyPolicies

    var limit: Int {
      switch self {
      case .fewLengths: 150
      case .allLengths: 500
      case .fewPairs: 400
      case .manyPolicies: 2500
      }
    }
  }

  private static func prefix(_ isV6: Bool, _ kind: Kind, _ random: inout SeededGenerator) -> IPPrefix {
    let address = address(isV6, &random)
    switch kind {
    case .allLengths: return IPPrefix(address, length: .random(in: 0...address.family.bits, using: &random))!
    case .fewLengths, .manyPolicies:
      let lengths: [UInt8] = isV6 ? [0, 1, 32, 62, 64, 66, 128] : [0, 8, 14, 16, 30, 32]
      return IPPrefix(address, length: lengths.randomElement(using: &random)!)!
    case .fewPairs: return IPPrefix(address, length: isV6 ? [0, 1, 48].randomElement(using: &random)! : 8)!
    }
  }

  private static func ports(_ random: inout SeededGenerator) -> ClosedRange<UInt16> {
    switch Int.random(in: 0..<5, using: &random) {
    case 0:
      let port = UInt16.random(in: 78...92, using: &random)
      return port...port
    case 1: return 79...UInt16.random(in: 80...90, using: &random)
    case 2: return UInt16.random(in: 0...85, using: &random)...UInt16.max
    default: return Selector.anyPort
    }
  }

  private static func priority(_ kind: Kind, _ random: inout SeededGenerator) -> UInt32? {
    if kind == .manyPolicies {
      return Int.random(in: 0..<8, using: &random) == 0 ? nil : .random(in: 0...1000, using: &random)
    }
    return Int.random(in: 0..<3, using: &random) == 0 ? .random(in: 0...3, using: &random) : nil
  }

  @Test(arguments: Kind.allCases) func agreesWithALinearSearch(kind: Kind) {
    var random = SeededGenerator()
    let reclaimer = ManualReclaimer()
    let spd = SPD(reclaimer: reclaimer)
    var model = Model()
    for step in 1...6_000 {
      let isV6 = Bool.random(using: &random)
      let direction = UInt8.random(in: 0...1, using: &random)
      if model.policies.count < kind.limit, Int.random(in: 0..<3, using: &random) > 0 {
        let selector = Selector(
          source: Self.prefix(isV6, kind, &random), destination: Self.prefix(isV6, kind, &random),
          ipProtocol: [nil, 6, 17].randomElement(using: &random)!, sourcePorts: Self.ports(&random),
          destinationPorts: Self.ports(&random))
        let policy = Sample.policy(
          selector, direction: direction, priority: Self.priority(kind, &random), index: UInt32(step))
        policy.pointee.type = [GW_REQUIRE, GW_USE, GW_BYPASS, GW_DENY].randomElement(using: &random)!.policyType
        let generation = spd.generation
        spd.insert(policy)
        #expect(spd.generation != generation)
        model.policies.append((selector, direction, policy))
      } else if !model.policies.isEmpty, Int.random(in: 0..<3, using: &random) == 0 {
        let item = model.policies.remove(at: .random(in: 0..<model.policies.count, using: &random))
        #expect(spd.remove(item.policy) { UnsafeMutableRawPointer(item.policy).deallocate() })
        #expect(!spd.remove(item.policy))
      }
      if step % 50 == 0 { reclaimer.pass() }
      // Much is removed now and then, a batch at a time.
      if step % 1500 == 0 { Self.removeHalf(spd, &model, &random) }
      for _ in 0..<2 { Self.compare(spd, model, isV6, direction, &random, "seed \(random.seed) step \(step)") }
    }
    for item in model.policies { #expect(spd.remove(item.policy)) }
    reclaimer.pass()
    #expect(spd.count == 0)
    for isV6 in [false, true] {
      var key = Sample.key(Self.address(isV6, &random), Self.address(isV6, &random))
      #expect(spd.reader.lookup(&key) == nil)
    }
  }

  private static func removeHalf(_ spd: SPD, _ model: inout Model, _ random: inout SeededGenerator) {
    let doomed = model.policies.shuffled(using: &random).prefix(model.policies.count / 2)
    spd.batch {
      for item in doomed { #expect(spd.remove(item.policy) { UnsafeMutableRawPointer(item.policy).deallocate() }) }
    }
    let gone = Set(doomed.map(\.policy))
    model.policies.removeAll { gone.contains($0.policy) }
  }

  private static func compare(
    _ spd: SPD, _ model: Model, _ isV6: Bool, _ direction: UInt8, _ random: inout SeededGenerator, _ place: String
  ) {
    let (source, destination) = (address(isV6, &random), address(isV6, &random))
    var key = Sample.key(
      source, destination, ipProtocol: [6, 17, 1].randomElement(using: &random)!,
      sourcePort: .random(in: 78...92, using: &random), destinationPort: .random(in: 78...92, using: &random),
      opaque: Int.random(in: 0..<5, using: &random) == 0, direction: direction)
    if spd.reader.lookup(&key) != model.lookup(key, source, destination) {
      Issue.record("\(place): \(source) → \(destination)")
    }
    key.opaque_ports = 1
    for hidesProtocol in isV6 ? [false, true] : [false] {
      let rank = spd.reader.rankOfHidden(&key, hidesProtocol: hidesProtocol)
      if rank != model.rankOfHidden(key, source, destination, hidesProtocol: hidesProtocol) {
        Issue.record("\(place): \(source) → \(destination), hidden")
      }
    }
    if spd.reader.protectsSource(&key) != model.protects(source) { Issue.record("\(place): \(source) protected") }
  }

  /// A half of all addresses is not all of them, though their lengths share a bit.
  @Test func aHalfIsNotAll() {
    let spd = SPD(reclaimer: ImmediateReclaimer())
    func isProtected(_ source: String) -> Bool {
      var key = Sample.key(IPAddress(source)!, IPAddress(source)!)
      return spd.reader.protectsSource(&key)
    }
    let sources = ["::1", "4000::1", "8000::1", "c000::1", "ffff::1"]
    for (prefix, covered) in [
      ("::/1", [true, true, false, false, false]), ("8000::/1", [false, false, true, true, true]),
      ("::/0", [true, true, true, true, true]), ("4000::/2", [false, true, false, false, false]),
    ] {
      let policy = Sample.policy(
        Selector(source: IPPrefix(prefix)!, destination: IPPrefix("2001:db8::/32")!), index: 1)
      policy.pointee.type = GW_REQUIRE.policyType
      spd.insert(policy)
      #expect(sources.map(isProtected) == covered, "\(prefix)")
      #expect(spd.remove(policy) { UnsafeMutableRawPointer(policy).deallocate() })
      #expect(!sources.contains(where: isProtected))
    }
  }

  /// Thousands of source addresses in order, at random and gone again: chunks split and join.
  @Test(arguments: [false, true]) func manyAddressesComeAndGo(isV6: Bool) {
    var random = SeededGenerator()
    let spd = SPD(reclaimer: ImmediateReclaimer())
    func address(_ number: UInt32) -> IPAddress {
      isV6 ? Sample.v6(0x2001_0db8_0000_0000, UInt64(number) << 8) : Sample.v4(number)
    }
    let any = IPPrefix(isV6 ? "::/0" : "0.0.0.0/0")!
    var standing: [UInt32: UnsafeMutablePointer<gw_policy>] = [:]
    func agrees(_ number: UInt32) -> Bool {
      var key = Sample.key(address(number), address(0))
      var near = SPDPrefetch()
      near.begin(spd.reader, &key, direction: GW_OUT)
      for step in 1...3 { near.advance(&key, step: step) }
      return spd.reader.lookup(&key) == standing[number]
    }
    for number in 0..<6000 as Range<UInt32> {
      let name = number < 2000 ? number * 5 : UInt32.random(in: 0...20_000, using: &random)
      guard standing[name] == nil else { continue }
      let source = IPPrefix(address(name), length: isV6 ? 128 : 32)!
      let policy = Sample.policy(Selector(source: source, destination: any), index: number + 1)
      spd.insert(policy)
      standing[name] = policy
    }
    let filled = spd.footprint
    for name in standing.keys.shuffled(using: &random) {
      if !agrees(name) || !agrees(name + 1) { Issue.record("seed \(random.seed): \(name)") }
      guard let policy = standing.removeValue(forKey: name) else { continue }
      #expect(spd.remove(policy) { UnsafeMutableRawPointer(policy).deallocate() })
      if !agrees(name) { Issue.record("seed \(random.seed): \(name) is gone") }
    }
    #expect(spd.count == 0)
    #expect(spd.footprint < filled / 10)
  }

  @Test func ranksAsDocumented() {
    func selector(_ source: String, _ destination: String, _ ipProtocol: UInt8? = nil, port: UInt16? = nil) -> Selector
    {
      Selector(
        source: IPPrefix(source)!, destination: IPPrefix(destination)!, ipProtocol: ipProtocol,
        destinationPorts: port.map { $0...$0 } ?? Selector.anyPort)
    }
    let inOrder = [
      PolicyRank.rank(priority: 0, order: 9), PolicyRank.rank(priority: 0, order: 10),
      PolicyRank.rank(priority: 1, order: 1), PolicyRank.rank(priority: .max, order: 1),
      PolicyRank.rank(of: selector("10.0.0.1", "10.0.0.2", 6, port: 80), order: 1),
      PolicyRank.rank(of: selector("10.0.0.1", "10.0.0.2", 6), order: 1),
      PolicyRank.rank(of: selector("10.0.0.1", "10.0.0.2"), order: 1),
      PolicyRank.rank(of: selector("10.0.0.1", "0.0.0.0/0"), order: 1),
      PolicyRank.rank(of: selector("10.0.0.0/24", "10.0.0.2"), order: 1),
      PolicyRank.rank(of: selector("10.0.0.0/24", "10.0.0.2"), order: 2),
      PolicyRank.rank(of: selector("0.0.0.0/0", "0.0.0.0/0"), order: 1),
    ]
    #expect(inOrder == inOrder.sorted())
    #expect(Set(inOrder).count == inOrder.count)
  }

  @Test func aBatchIsOneStepAndHoldsRemovedPoliciesUntilThen() {
    let reclaimer = ManualReclaimer()
    let spd = SPD(reclaimer: reclaimer)
    let selector = Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("0.0.0.0/0")!)
    let policies = (1...10).map { Sample.policy(selector, priority: UInt32($0), index: UInt32($0)) }
    for policy in policies { spd.insert(policy) }
    reclaimer.pass()
    let generation = spd.generation
    var freed = 0
    spd.batch {
      for policy in policies { _ = spd.remove(policy) { freed += 1 } }
      reclaimer.pass()
      #expect(freed == 0)
      #expect(spd.generation == generation)
    }
    #expect(spd.generation == generation &+ 1)
    reclaimer.pass()
    #expect(freed == 10)
  }

  /// Inside of a batch, too, what stands in for a policy is there before that one goes.
  @Test func aBatchMakesBeforeItBreaks() {
    let spd = SPD(reclaimer: ManualReclaimer())
    let any = IPPrefix("0.0.0.0/0")!
    let broad = Sample.policy(Selector(source: IPPrefix("10.0.0.0/8")!, destination: any), index: 1)
    let narrow = Sample.policy(
      Selector(source: IPPrefix("10.1.0.0/16")!, destination: IPPrefix("10.2.0.0/16")!), index: 2)
    let other = Sample.policy(Selector(source: IPPrefix("0.0.0.0/0")!, destination: any), index: 3)
    var key = Sample.key(Sample.v4(0x0a01_0001), Sample.v4(0x0a02_0001))
    spd.insert(broad)
    spd.batch {
      spd.insert(narrow)
      #expect(spd.remove(broad))
      #expect(spd.reader.lookup(&key) == narrow)
      spd.insert(other)
      #expect(spd.remove(narrow))
      #expect(spd.reader.lookup(&key) == other)
    }
    #expect(spd.reader.lookup(&key) == other)
  }

  @Test func readersAreUndisturbed() {
    let group = ReaderGroup(readers: 2)
    let spd = SPD(reclaimer: group)
    let any = Sample.policy(
      Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("0.0.0.0/0")!), index: 1)
    spd.insert(any)
    let failures = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 1)
    failures.initialize(to: Atomic(0))
    nonisolated(unsafe) let shared = failures
    let reader = spd.reader
    group.start { _, round in
      for i in 0..<32 {
        let source = UInt32(round * 32 + i) & 0xffff
        var key = Sample.key(Sample.v4(0x0a00_0000 | source), Sample.v4(5))
        // There is always one, and what is found is for this packet.
        guard let policy = reader.lookup(&key) else {
          shared.pointee.wrappingAdd(1, ordering: .relaxed)
          continue
        }
        let mask = UInt64(SPDReader.masks(policy.pointee.source_length).0 >> 32)
        if key.source_low & mask != policy.pointee.source_low { shared.pointee.wrappingAdd(1, ordering: .relaxed) }
      }
    }
    var random = SeededGenerator()
    var standing: [UnsafeMutablePointer<gw_policy>] = []
    for step in 2..<30_000 {
      if standing.count < 200 || Bool.random(using: &random) {
        let prefix = IPPrefix(
          Sample.v4(0x0a00_0000 | .random(in: 0...0xffff, using: &random)), length: .random(in: 16...32, using: &random)
        )!
        let selector = Selector(source: prefix, destination: IPPrefix("0.0.0.0/0")!)
        let policy = Sample.policy(selector, index: UInt32(step))
        spd.insert(policy)
        standing.append(policy)
      } else {
        let policy = standing.remove(at: .random(in: 0..<standing.count, using: &random))
        _ = spd.remove(policy) {
          policy.pointee.source_low = 1
          UnsafeMutableRawPointer(policy).deallocate()
        }
      }
      if step % 16 == 0 { group.reclaim() }
    }
    group.join()
    #expect(failures.pointee.load(ordering: .relaxed) == 0, "seed \(random.seed)")
    failures.deallocate()
  }
}

@Suite struct FlowCacheTests {
  @Test func findsWhatWasKeptAndNothingElse() {
    var random = SeededGenerator()
    let cache = FlowCache(flows: 64)
    defer { cache.deallocate() }
    var kept: [String: UInt32] = [:]
    for number in 1...20_000 {
      let generation = UInt32(number / 2000)
      if number % 2000 == 0 { kept = [:] }
      let low = UInt32.random(in: 1...40, using: &random)
      let isV6 = low % 2 == 0
      let source = isV6 ? Sample.v6(UInt64(low % 4), 9) : Sample.v4(low)
      var key = Sample.key(
        source, isV6 ? Sample.v6(1, UInt64(low)) : Sample.v4(1), sourcePort: .random(in: 1...3, using: &random),
        direction: UInt8.random(in: 0...1, using: &random))
      let name = "\(source) \(key.destination_low) \(key.source_port) \(key.direction)"
      let hash = FlowCache.hash(&key)
      if let entry = cache.lookup(&key, hash: hash, generation: generation) {
        if entry.pointee.adjacency != kept[name] { Issue.record("seed \(random.seed): \(name)") }
      } else {
        cache.insert(&key, hash: hash, generation: generation, policy: nil, adjacency: UInt32(number), action: 3)
        kept[name] = UInt32(number)
        #expect(cache.lookup(&key, hash: hash, generation: generation)?.pointee.action == 3)
        #expect(cache.lookup(&key, hash: hash, generation: generation &+ 1) == nil)
      }
    }
  }

  @Test func aSetHoldsTheTwoLatest() {
    let cache = FlowCache(flows: 2)
    defer { cache.deallocate() }
    var keys = (1...3).map { Sample.key(Sample.v4($0), Sample.v4(9)) }
    for i in 0..<3 { cache.insert(&keys[i], hash: 0, generation: 1, policy: nil, adjacency: UInt32(i)) }
    #expect(cache.lookup(&keys[0], hash: 0, generation: 1) == nil)
    #expect(cache.lookup(&keys[1], hash: 0, generation: 1)?.pointee.adjacency == 1)
    #expect(cache.lookup(&keys[2], hash: 0, generation: 1)?.pointee.adjacency == 2)
    cache.clear()
    #expect(cache.lookup(&keys[2], hash: 0, generation: 1) == nil)
    // An entry is there once, however often it is kept.
    for i in 0..<4 { cache.insert(&keys[0], hash: 0, generation: 1, policy: nil, adjacency: UInt32(i)) }
    cache.insert(&keys[1], hash: 0, generation: 1, policy: nil)
    #expect(cache.lookup(&keys[0], hash: 0, generation: 1)?.pointee.adjacency == 3)
  }

  /// Three flows of one set: the third goes to its other set, so that none puts another out for ever.
  @Test func aFullSetHasASecondOne() {
    let cache = FlowCache(flows: 4096)
    defer { cache.deallocate() }
    var keys = (1...4).map { Sample.key(Sample.v4($0), Sample.v4(9)) }
    for (i, far) in [1, 2, 3, 3].enumerated() {
      let hash = UInt64(far) << 32 | 7
      cache.insert(&keys[i], hash: hash, generation: 1, policy: nil, adjacency: UInt32(i))
    }
    for (i, far) in [1, 2, 3, 3].enumerated() {
      let hash = UInt64(far) << 32 | 7
      #expect(cache.lookup(&keys[i], hash: hash, generation: 1)?.pointee.adjacency == UInt32(i))
      #expect(cache.lookup(&keys[i], hash: hash, generation: 2) == nil)
    }
    // Decided anew, each is found: those of the second set first, for which the first one has room now.
    for (i, far) in [1, 2, 3, 3].enumerated().reversed() {
      let hash = UInt64(far) << 32 | 7
      cache.insert(&keys[i], hash: hash, generation: 2, policy: nil, adjacency: UInt32(10 + i))
      #expect(cache.lookup(&keys[i], hash: hash, generation: 2)?.pointee.adjacency == UInt32(10 + i))
    }
    for (i, far) in [1, 2, 3, 3].enumerated() {
      #expect(cache.lookup(&keys[i], hash: UInt64(far) << 32 | 7, generation: 2)?.pointee.adjacency == UInt32(10 + i))
    }
  }

  /// A quarter of the cache full: of the hundred and more that would not fit if there were one set for each, few are lost.
  @Test func aQuarterIsNotTooFull() {
    let cache = FlowCache(flows: 16384)
    defer { cache.deallocate() }
    var random = SeededGenerator()
    var keys = (0..<4000).map { _ in
      Sample.key(Sample.v4(.random(in: 1 ... .max, using: &random)), Sample.v4(9), sourcePort: 1)
    }
    for i in keys.indices { cache.insert(&keys[i], hash: FlowCache.hash(&keys[i]), generation: 1, policy: nil) }
    let lost = keys.indices.count { cache.lookup(&keys[$0], hash: FlowCache.hash(&keys[$0]), generation: 1) == nil }
    #expect(lost < 40, "seed \(random.seed)")
  }

  /// A generation of 0 finds nothing in a fresh cache.
  @Test func startsEmpty() {
    let cache = FlowCache(flows: 16)
    defer { cache.deallocate() }
    var key = Sample.key(Sample.v4(0), Sample.v4(0))
    #expect(cache.lookup(&key, hash: FlowCache.hash(&key), generation: 0) == nil)
  }

  @Test func hashesSpread() {
    var sets = Set<UInt64>()
    for i in 0..<4096 as Range<UInt32> {
      var key = Sample.key(Sample.v4(0x0a00_0000 + i), Sample.v4(0x0a00_0000 + i))
      sets.insert(FlowCache.hash(&key) & 4095)
    }
    #expect(sets.count > 2400)
  }
}

@Suite struct PolicyCheckTests {
  private static func esp(_ mode: gw_sa_flag?, saProtocol: UInt8 = 50, requestID: UInt32 = 7)
    -> UnsafeMutablePointer<gw_sa>
  {
    let sa = Sample.sa(spi: 1000, destination: Sample.v4(2), saProtocol: saProtocol, flags: mode)
    sa.pointee.source_low = 1
    sa.pointee.request_id = requestID
    return sa
  }

  private static func policy(_ templates: [gw_template]) -> UnsafeMutablePointer<gw_policy> {
    let policy = Sample.policy(
      Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("0.0.0.0/0")!), direction: 0, index: 1)
    policy.pointee.template_count = UInt8(templates.count)
    let copy = UnsafeMutablePointer<gw_template>.allocate(capacity: templates.count)
    copy.initialize(from: templates, count: templates.count)
    policy.pointee.templates = copy
    if let last = templates.last {
      policy.pointee.sa_protocol = last.sa_protocol
      policy.pointee.mode = last.mode
      policy.pointee.request_id = last.request_id
      policy.pointee.peer_low = last.peer_low
      policy.pointee.local_low = last.local_low
    }
    return policy
  }

  private static func template(_ saProtocol: UInt8, mode: UInt8, optional: UInt8 = 0) -> gw_template {
    gw_template(
      peer_high: 0, peer_low: 1, local_high: 0, local_low: 2, request_id: 7, sa_protocol: saProtocol, mode: mode,
      is_optional: optional, reserved: 0)
  }

  @Test func oneTemplate() {
    let tunnel = Self.esp(GW_SA_TUNNEL)
    let policy = Self.policy([Self.template(50, mode: 1)])
    policy.pointee.templates = nil
    #expect(PolicyCheck.policyAccepts(policy, tunnel))
    #expect(!PolicyCheck.policyAccepts(policy, Self.esp(nil)))
    #expect(!PolicyCheck.policyAccepts(policy, Self.esp(GW_SA_TUNNEL, saProtocol: 51)))
    #expect(!PolicyCheck.policyAccepts(policy, Self.esp(GW_SA_TUNNEL, requestID: 8)))
    policy.pointee.mode = 2
    #expect(PolicyCheck.policyAccepts(policy, Self.esp(nil)))
    policy.pointee.peer_low = 3
    #expect(!PolicyCheck.policyAccepts(policy, tunnel))
    policy.pointee.peer_low = 0
    #expect(PolicyCheck.policyAccepts(policy, tunnel))
    policy.pointee.local_low = 9
    #expect(!PolicyCheck.policyAccepts(policy, tunnel))
    policy.pointee.local_low = 2
    policy.pointee.identities = 77
    #expect(!PolicyCheck.policyAccepts(policy, tunnel))
    tunnel.pointee.identities = 77
    #expect(PolicyCheck.policyAccepts(policy, tunnel))
  }

  @Test func bundles() {
    let (esp, ah, comp) = (Self.esp(nil), Self.esp(nil, saProtocol: 51), Self.esp(GW_SA_TUNNEL, saProtocol: 108))
    func accepts(_ policy: UnsafeMutablePointer<gw_policy>, _ layers: [UnsafeMutablePointer<gw_sa>]) -> Bool {
      PolicyCheck.policyAccepts(policy, layers, count: layers.count)
    }
    let both = Self.policy([Self.template(50, mode: 0), Self.template(51, mode: 0)])
    #expect(accepts(both, [ah, esp]))
    #expect(!accepts(both, [esp, ah]))
    #expect(!accepts(both, [esp]))
    #expect(!accepts(both, [ah]))
    let compressed = Self.policy([Self.template(108, mode: 1, optional: 1), Self.template(50, mode: 0)])
    #expect(accepts(compressed, [esp, comp]))
    #expect(accepts(compressed, [esp]))
    #expect(!accepts(compressed, [comp]))
    // OpenBSD: a flow names ESP only; AH outside it is allowed, another tunnel is not.
    let one = Self.policy([Self.template(50, mode: 2)])
    #expect(accepts(one, [ah, esp]))
    #expect(!accepts(one, [comp, esp]))
  }
}
