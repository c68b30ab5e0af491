import CLayout
import Testing
import Wire

@testable import IPsec

@Suite struct DatabasePolicyTests {
  @Test func rekeyIsMakeBeforeBreak() throws {
    let test = TestDatabase()
    _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    #expect(test.outboundSPI() == 0)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    #expect(test.outboundSPI() == 1000)
    let generation = test.database.spd.generation
    try test.database.add(TestDatabase.sa(1001), origin: 0)
    #expect(test.outboundSPI() == 1001)
    // The SA in use goes: another one takes over, or none.
    try test.database.delete(TestDatabase.id(1001), origin: 0)
    #expect(test.outboundSPI() == 1000)
    try test.database.delete(TestDatabase.id(1000), origin: 0)
    #expect(test.outboundSPI() == 0)
    // Flow caches keep what they know through all of this.
    #expect(test.database.spd.generation == generation)
    // The policy comes last.
    try test.database.add(TestDatabase.sa(1002), origin: 0)
    _ = try test.database.add(TestDatabase.flow(), replacing: true, origin: 0)
    #expect(test.outboundSPI() == 1002)
  }

  @Test func onlyFittingSAsAreBound() throws {
    let test = TestDatabase()
    func add(_ spi: UInt32, _ change: (inout SAParameters) -> Void = { _ in }) throws {
      var sa = TestDatabase.sa(spi, requestID: 5)
      change(&sa)
      try test.database.add(sa, origin: 0)
    }
    _ = try test.database.add(
      TestDatabase.policy(templates: [TestDatabase.template(requestID: 5)]), replacing: false, origin: 0)
    try add(1000) { $0.requestID = 6 }
    try add(1001) { $0.mode = .transport }
    try add(1002) { $0.destination = IPAddress("203.0.113.10")! }
    try add(1003) { $0.source = IPAddress("198.51.100.2")! }
    try add(1004) { $0.interfaceID = 9 }
    try add(1005) { $0.mark = Mark(value: 3, mask: 0xff) }
    try add(1006) {
      $0.selector = Selector(source: IPPrefix("192.168.60.99")!, destination: IPPrefix("172.20.1.0/24")!)
    }
    try test.database.add(TestDatabase.sa(1007, requestID: 5, saProtocol: .ah), origin: 0)
    try test.database.add(TestDatabase.sa(1008, out: false, requestID: 5), origin: 0)
    #expect(test.outboundSPI() == 0)
    try add(1010) { $0.selector = TestDatabase.traffic }
    #expect(test.outboundSPI() == 1010)
  }

  /// Linux asks each SA for the packet: several of narrower selectors serve one policy, and what none of them has goes
  /// without.
  @Test func anSAWithItsOwnSelectorCarriesItsPart() throws {
    let test = TestDatabase()
    let database = test.database
    let index = try database.add(TestDatabase.policy(templates: [TestDatabase.template()]), replacing: false, origin: 0)
    func add(_ spi: UInt32, _ destination: String?) throws {
      var sa = TestDatabase.sa(spi)
      sa.selector = destination.map { Selector(source: TestDatabase.traffic.source, destination: IPPrefix($0)!) }
      try database.add(sa, origin: 0)
    }
    func spi(_ destination: String) -> UInt32? { test.outboundSPI(TestDatabase.key("192.168.60.5", destination)) }
    try add(1000, "172.20.1.0/25")
    try add(1001, "172.20.1.128/26")
    #expect([spi("172.20.1.7"), spi("172.20.1.130"), spi("172.20.1.200")] == [1000, 1001, 0])
    // A rekey is a store and no more.
    let generation = database.spd.generation
    try add(1002, "172.20.1.0/25")
    #expect(spi("172.20.1.7") == 1002 && database.spd.generation == generation)
    // A packet that no SA may carry is asked for, one that has an SA is not.
    database.tick(now: database.now + 1)
    _ = test.takeEvents()
    database.acquire(policyIndex: index, key: TestDatabase.key("192.168.60.5", "172.20.1.7"))
    #expect(test.takeEvents().isEmpty)
    database.acquire(policyIndex: index, key: TestDatabase.key("192.168.60.5", "172.20.1.200"))
    #expect(test.takeEvents() == ["acquire 1"])
    // One for everything, the newest, takes all; when it goes the others are there.
    try add(1003, nil)
    #expect([spi("172.20.1.7"), spi("172.20.1.130"), spi("172.20.1.200")] == [1003, 1003, 1003])
    try database.delete(TestDatabase.id(1003), origin: 0)
    #expect([spi("172.20.1.7"), spi("172.20.1.130"), spi("172.20.1.200")] == [1002, 1001, 0])
    try database.delete(TestDatabase.id(1002), origin: 0)
    #expect(spi("172.20.1.7") == 1000)
    try database.delete(TestDatabase.id(1000), origin: 0)
    #expect([spi("172.20.1.7"), spi("172.20.1.130")] == [0, 1001])
    // Other policies rank before and behind all of a policy.
    var deny = TestDatabase.policy(
      Selector(source: TestDatabase.traffic.source, destination: IPPrefix("172.20.1.130")!), templates: [],
      priority: 1001)
    deny.type = .deny
    _ = try database.add(deny, replacing: false, origin: 0)
    #expect(spi("172.20.1.130") == 1001)
    deny.priority = 999
    _ = try database.add(deny, replacing: true, origin: 0)
    #expect(spi("172.20.1.130") == 0)
    try database.deletePolicy(index: index, origin: 0)
    #expect(spi("172.20.1.131") == nil && database.spd.count == 1)
  }

  /// In a bundle the packet is what the first layer gets, for all of them.
  @Test func aBundleOfSAsWithSelectors() throws {
    let test = TestDatabase()
    let templates = [TestDatabase.template(), TestDatabase.template(saProtocol: .ah, mode: .transport)]
    _ = try test.database.add(TestDatabase.policy(templates: templates), replacing: false, origin: 0)
    var sa = TestDatabase.sa(1000)
    sa.selector = Selector(source: TestDatabase.traffic.source, destination: IPPrefix("172.20.1.0/25")!)
    try test.database.add(sa, origin: 0)
    #expect(test.outboundSPI() == 0)
    try test.database.add(TestDatabase.sa(1001, saProtocol: .ah, mode: .transport), origin: 0)
    #expect(test.outboundSPI() == 1000 && test.gwSA(1000)?.pointee.next == test.gwSA(1001, saProtocol: .ah))
    #expect(test.outboundSPI(TestDatabase.key("192.168.60.5", "172.20.1.200")) == 0)
  }

  /// Linux takes the route's source; here it is the SA's.
  @Test(arguments: [IPAddress.unspecified(.v4), TestDatabase.here])
  func anUnspecifiedTunnelSourceIsAny(_ source: IPAddress) throws {
    let test = TestDatabase()
    var policy = TestDatabase.policy(
      templates: [SATemplate(source: source, destination: TestDatabase.there, requestID: 5)])
    (policy.local, policy.peer) = (source, TestDatabase.there)
    _ = try test.database.add(policy, replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000, requestID: 5), origin: 0)
    #expect(test.outboundSPI() == 1000)
  }

  /// They are there for the daemon that made them, listed and with SAs; packets are not theirs, as packets have no mark
  /// and come by no XFRM interface.
  @Test func marksAndInterfacesSelectNoPackets() throws {
    let test = TestDatabase()
    let everything = Selector(source: .any(.v4), destination: .any(.v4))
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    for (mark, interfaceID) in [(Mark(value: 5, mask: 0xff), 0), (nil, 7), (Mark(value: 5, mask: 0xff), 7)]
      as [(Mark?, UInt32)]
    {
      for direction in [PolicyDirection.out, .in] {
        var policy = TestDatabase.policy(everything, direction: direction, templates: [TestDatabase.template()])
        (policy.mark, policy.interfaceID) = (mark, interfaceID)
        let index = try test.database.add(policy, replacing: false, origin: 0)
        #expect(test.database.policy(index: index)?.parameters == policy)
        policy.priority = 3
        #expect(try test.database.add(policy, replacing: true, origin: 0) == index)
      }
    }
    var inbound = TestDatabase.key("172.20.1.7", "192.168.60.5", direction: 0)
    #expect(test.outboundSPI() == nil && test.database.tables.spd.lookup(&inbound) == nil)
    #expect(test.database.policyCount() == 6 && test.database.spd.count == 0)
    // No mark is a mark of 0.
    var unmarked = TestDatabase.policy(everything, templates: [TestDatabase.template()])
    unmarked.mark = Mark(value: 0, mask: 0xff)
    _ = try test.database.add(unmarked, replacing: false, origin: 0)
    #expect(test.outboundSPI() == 1000)
    test.database.flushPolicies(owner: nil, origin: 0)
    test.reclaimer.pass()
    #expect(test.database.policyCount() == 0 && test.outboundSPI() == nil)
  }

  @Test(arguments: [PolicyDirection.out, .in, .forward])
  func anOptionalTunnelIsForInboundPolicies(_ direction: PolicyDirection) throws {
    let test = TestDatabase()
    let templates = [
      TestDatabase.template(saProtocol: .ipcomp, optional: true), TestDatabase.template(mode: .transport),
    ]
    let policy = TestDatabase.policy(direction: direction, templates: templates)
    guard direction == .out else {
      _ = try test.database.add(policy, replacing: false, origin: 0)
      return
    }
    #expect(throws: DatabaseError.invalid("a tunnel template of an outbound policy cannot be optional")) {
      try test.database.add(policy, replacing: false, origin: 0)
    }
  }

  @Test func aFlushOfNothingIsNotTold() throws {
    let test = TestDatabase()
    test.database.flushSAs(nil, owner: nil, origin: 0)
    test.database.flushSAs(.esp, owner: nil, origin: 0)
    test.database.flushPolicies(owner: nil, origin: 0)
    #expect(test.takeEvents().isEmpty)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    test.database.flushSAs(.ah, owner: nil, origin: 0)
    test.database.flushSAs(.esp, owner: nil, origin: 0)
    #expect(test.takeEvents() == ["added 1000", "flushed"])
  }

  @Test func anSPIInTheTemplatePinsTheSA() throws {
    let test = TestDatabase()
    let pinned = TestDatabase.policy(templates: [TestDatabase.template(requestID: 5, spi: 1000)])
    let index = try test.database.add(pinned, replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1001, requestID: 5), origin: 0)
    #expect(test.outboundSPI() == 0)
    try test.database.add(TestDatabase.sa(1000, requestID: 5), origin: 0)
    #expect(test.outboundSPI() == 1000)
    try test.database.add(TestDatabase.sa(1002, requestID: 5), origin: 0)
    #expect(test.outboundSPI() == 1000)
    // charon's UPDPOLICY: the next SPI. The workers' object and the flow caches stay.
    let generation = test.database.spd.generation
    let next = TestDatabase.policy(templates: [TestDatabase.template(requestID: 5, spi: 1002)])
    #expect(try test.database.add(next, replacing: true, origin: 0) == index)
    #expect(test.outboundSPI() == 1002)
    #expect(test.database.spd.generation == generation)
    #expect(test.database.policy(index: index)?.parameters.templates[0].spi == 1002)
  }

  @Test func identitiesBindFlows() throws {
    let test = TestDatabase()
    let (us, them) = (Identity(kind: .fqdn, text: "gw1"), Identity(kind: .fqdn, text: "gw2"))
    var (out, into) = (TestDatabase.flow(), TestDatabase.flow(TestDatabase.traffic.mirrored, direction: .in))
    for flow in 0..<2 {
      if flow == 0 { (out.sourceIdentity, out.destinationIdentity) = (us, them) }
      if flow == 1 { (into.sourceIdentity, into.destinationIdentity) = (us, them) }
    }
    _ = try test.database.add(out, replacing: false, origin: 0)
    _ = try test.database.add(into, replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    #expect(test.outboundSPI() == 0)
    var sa = TestDatabase.sa(1001)
    (sa.sourceIdentity, sa.destinationIdentity) = (us, them)
    try test.database.add(sa, origin: 0)
    #expect(test.outboundSPI() == 1001)
    // An inbound SA's source is the peer.
    var inbound = TestDatabase.sa(2000, out: false)
    (inbound.sourceIdentity, inbound.destinationIdentity) = (them, us)
    try test.database.add(inbound, origin: 0)
    try test.database.add(TestDatabase.sa(2001, out: false), origin: 0)
    var key = TestDatabase.key("172.20.1.7", "192.168.60.5", direction: 0)
    let policy = try #require(test.database.tables.spd.lookup(&key))
    #expect(PolicyCheck.policyAccepts(policy, try #require(test.gwSA(2000, out: false))))
    #expect(!PolicyCheck.policyAccepts(policy, try #require(test.gwSA(2001, out: false))))
  }

  @Test func inboundCheckGoesByPeer() throws {
    let test = TestDatabase()
    _ = try test.database.add(
      TestDatabase.flow(TestDatabase.traffic.mirrored, direction: .in), replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(2000, out: false), origin: 0)
    try test.database.add(TestDatabase.sa(2001, out: false, peer: IPAddress("203.0.113.77")!), origin: 0)
    var key = TestDatabase.key("172.20.1.7", "192.168.60.5", direction: 0)
    let policy = try #require(test.database.tables.spd.lookup(&key))
    #expect(PolicyCheck.policyAccepts(policy, try #require(test.gwSA(2000, out: false))))
    #expect(!PolicyCheck.policyAccepts(policy, try #require(test.gwSA(2001, out: false))))
  }

  @Test func transportModeTakesThePacketsHosts() throws {
    let test = TestDatabase()
    let hosts = Selector(source: IPPrefix(TestDatabase.here), destination: IPPrefix(TestDatabase.there))
    let template = TestDatabase.template(requestID: 3, mode: .transport)
    _ = try test.database.add(TestDatabase.policy(hosts, templates: [template]), replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000, requestID: 3, mode: .transport), origin: 0)
    #expect(test.outboundSPI(TestDatabase.key("198.51.100.1", "203.0.113.9")) == 1000)
  }

  @Test func namesIndicesAndReplacing() throws {
    let test = TestDatabase()
    let first = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    #expect(first & 7 == UInt32(PolicyDirection.out.rawValue) && first != 0)
    #expect(throws: DatabaseError.exists("the policy")) {
      try test.database.add(TestDatabase.flow(type: .use), replacing: false, origin: 0)
    }
    #expect(try test.database.add(TestDatabase.flow(type: .use), replacing: true, origin: 0) == first)
    var key = TestDatabase.key()
    #expect(test.database.tables.spd.lookup(&key)?.pointee.type == PolicyType.use.rawValue)
    var marked = TestDatabase.flow()
    marked.mark = Mark(value: 1, mask: 1)
    let second = try test.database.add(marked, replacing: false, origin: 0)
    #expect(second != first && test.database.policies().map(\.index) == [first, second])
    let found = test.database.policy(
      direction: .out, selector: TestDatabase.traffic, mark: marked.mark, interfaceID: 0)
    #expect(found?.index == second)
    try test.database.deletePolicy(index: first, origin: 0)
    #expect(test.database.policy(index: first) == nil)
    try test.database.deletePolicy(
      direction: .out, selector: TestDatabase.traffic, mark: marked.mark, interfaceID: 0, origin: 0)
    #expect(throws: DatabaseError.self) { try test.database.deletePolicy(index: second, origin: 0) }
    #expect(
      test.takeEvents()
        == ["policy added", "policy updated", "policy added", "policy deleted", "policy deleted"])
    #expect(test.database.policyCount() == 0 && test.database.spd.count == 0)
    #expect(throws: DatabaseError.self) {
      try test.database.add(
        PolicyParameters(direction: .out, selector: TestDatabase.traffic), replacing: false, origin: 0)
    }
  }

  @Test func inAndForwardCountAsOne() throws {
    let test = TestDatabase()
    let template = SATemplate(source: TestDatabase.there, destination: TestDatabase.here, requestID: 1)
    for direction in [PolicyDirection.in, .forward] {
      let policy = TestDatabase.policy(
        TestDatabase.traffic.mirrored, direction: direction, templates: [template])
      _ = try test.database.add(policy, replacing: false, origin: 0)
    }
    var key = TestDatabase.key("172.20.1.7", "192.168.60.5", direction: 0)
    let used = try #require(test.database.tables.spd.lookup(&key))
    test.counters.values[used.pointee.slot] = gw_counters(
      packets: 7, bytes: 700, last_used: 1000, integrity_failures: 0, replayed: 0, drops: 0)
    for record in test.database.policies() {
      #expect(record.usage.packets == 7 && record.usage.lastUsed == 1_001_000)
    }
  }

  @Test func limits() throws {
    let test = TestDatabase(limits: DatabaseLimits(sas: 1, policies: 2))
    for index in 0..<3 {
      let selector = Selector(source: IPPrefix("10.\(index).0.0/16")!, destination: IPPrefix("0.0.0.0/0")!)
      let policy = TestDatabase.flow(selector, type: .bypass)
      if index < 2 {
        _ = try test.database.add(policy, replacing: false, origin: 0)
      } else {
        #expect(throws: DatabaseError.full("the limit of 2 policies is reached")) {
          try test.database.add(policy, replacing: false, origin: 0)
        }
      }
    }
  }

  // MARK: Bundles

  private func chain(_ test: TestDatabase) -> [UInt32] {
    var key = TestDatabase.key()
    var next = test.database.tables.spd.lookup(&key)?.loadSA()
    var spis: [UInt32] = []
    while let sa = next {
      spis.append(UInt32(bigEndian: sa.pointee.spi))
      next = sa.nextAtomic.pointee.load(ordering: .acquiring)
    }
    return spis
  }

  @Test func openBSDBundle() throws {
    let test = TestDatabase()
    _ = try test.database.add(TestDatabase.flow(), replacing: false, origin: 0)
    try test.database.add(TestDatabase.sa(1000), origin: 0)
    try test.database.add(TestDatabase.sa(1001, saProtocol: .ah, mode: .transport), origin: 0)
    #expect(chain(test) == [1000])
    let (esp, ah) = (TestDatabase.id(1000), TestDatabase.id(1001, saProtocol: .ah))
    try test.database.bundle(esp, with: ah, origin: 0)
    #expect(chain(test) == [1000, 1001])
    #expect(test.record(1000)?.parameters.bundledWith == ah)
    #expect(throws: DatabaseError.self) { try test.database.bundle(ah, with: esp, origin: 0) }
    #expect(throws: DatabaseError.self) { try test.database.bundle(esp, with: esp, origin: 0) }
    // Half a bundle protects half: it carries nothing. The link is cut when no worker can go along it.
    let first = try #require(test.gwSA(1000))
    try test.database.delete(ah, origin: 0)
    #expect(chain(test) == [])
    #expect(first.pointee.next != nil)
    test.reclaimer.pass()
    #expect(first.pointee.next == nil)
    while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
    // The other half comes back.
    try test.database.add(TestDatabase.sa(1001, saProtocol: .ah, mode: .transport), origin: 0)
    #expect(chain(test) == [1000, 1001])
    // The first half goes before the second.
    try test.database.delete(esp, origin: 0)
    try test.database.delete(ah, origin: 0)
    while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
    #expect(test.database.factory.slab.inUse == 0)
  }

  @Test func bundleOfTemplates() throws {
    let test = TestDatabase()
    let templates = [
      TestDatabase.template(requestID: 4, saProtocol: .ipcomp),
      TestDatabase.template(requestID: 4, mode: .transport),
    ]
    _ = try test.database.add(TestDatabase.policy(templates: templates), replacing: false, origin: 0)
    let comp = TestDatabase.sa(0x99, requestID: 4, saProtocol: .ipcomp)
    try test.database.add(comp, origin: 0)
    #expect(chain(test) == [])
    try test.database.add(TestDatabase.sa(1000, requestID: 4, mode: .transport), origin: 0)
    #expect(chain(test) == [0x99, 1000])
    // Rekey of the outer one alone.
    try test.database.add(TestDatabase.sa(1001, requestID: 4, mode: .transport), origin: 0)
    #expect(chain(test) == [0x99, 1001])
    try test.database.delete(TestDatabase.id(1001), origin: 0)
    #expect(chain(test) == [0x99, 1000])
    try test.database.delete(TestDatabase.id(1000), origin: 0)
    #expect(chain(test) == [])
    while test.reclaimer.waitingCount > 0 { test.reclaimer.pass() }
  }

  // MARK: Changes of the configuration

  @Test func aReloadTouchesOnlyWhatChanged() throws {
    let test = TestDatabase()
    let flows = [TestDatabase.flow(), TestDatabase.flow(TestDatabase.traffic.mirrored, direction: .in)]
    let sas = [TestDatabase.sa(1000), TestDatabase.sa(2000, out: false), TestDatabase.sa(1005)]
    try test.database.apply(ConfigurationChange(adding: sas, policies: flows), origin: 0)
    try test.database.add(TestDatabase.sa(4000, peer: IPAddress("203.0.113.50")!, owner: .xfrm(1)), origin: 0)
    let (kept, replaced) = (try #require(test.gwSA(1000)), try #require(test.gwSA(2000, out: false)))
    _ = test.takeEvents()
    #expect(test.database.change(toConfiguration: sas, policies: flows).isEmpty)

    var changed = sas[1]
    changed.hard.addTime = 9
    let other = TestDatabase.flow(
      Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("0.0.0.0/0")!), type: .bypass)
    let change = test.database.change(
      toConfiguration: [sas[0], changed, TestDatabase.sa(1006)], policies: [flows[0], other])
    try test.database.apply(change, origin: 0)
    #expect(test.gwSA(1000) == kept)
    #expect(test.gwSA(2000, out: false) != replaced)
    #expect(test.database.records().map(\.parameters.spi) == [1000, 1006, 2000, 4000])
    #expect(test.database.policies().map(\.parameters.type) == [.require, .bypass])
    #expect(
      test.takeEvents()
        == ["deleted 2000", "added 2000", "added 1006", "deleted 1005", "policy added", "policy deleted"])
  }

  /// IP in IP has no SPI on the wire: the new SA stands where the old one stood.
  @Test func aReloadThatRenamesIPIPKeepsTheTunnel() throws {
    let test = TestDatabase()
    func sa(_ spi: UInt32) -> SAParameters { TestDatabase.sa(spi, out: false, saProtocol: .ipip) }
    let source = TestDatabase.there.halves
    let number = SADReader.ipipSPI(sourceHigh: source.0, sourceLow: source.1)
    let here = UInt32(TestDatabase.here.halves.1)
    for spi: UInt32 in 1000...1003 {
      try test.database.apply(test.database.change(toConfiguration: [sa(spi)], policies: []), origin: 0)
      let found = test.database.tables.inbound.lookup(spi: number, destination4: here, saProtocol: 4)
      #expect(found.map { SAEntry.of($0.record).identifier.spi } == spi)
      #expect(test.database.records().map(\.parameters.spi) == [spi])
    }
  }

  @Test func aChangeIsAllOrNothing() throws {
    let test = TestDatabase(limits: DatabaseLimits(sas: 3, policies: 2))
    try test.database.apply(
      ConfigurationChange(adding: [TestDatabase.sa(1000)], policies: [TestDatabase.flow()]), origin: 0)
    let slabs = (test.database.factory.slab.inUse, test.database.policyFactory.slab.inUse)
    func refuses(_ change: ConfigurationChange) {
      #expect(throws: DatabaseError.self) { try test.database.apply(change, origin: 0) }
      #expect(test.database.records().map(\.parameters.spi) == [1000])
      #expect(test.database.policyCount() == 1)
      #expect(test.database.factory.slab.inUse == slabs.0 && test.database.policyFactory.slab.inUse == slabs.1)
    }
    var bad = TestDatabase.sa(1009)
    bad.spi = 3
    refuses(ConfigurationChange(adding: [TestDatabase.sa(1001), bad], policies: []))
    refuses(ConfigurationChange(adding: [TestDatabase.sa(1001), TestDatabase.sa(1000)], policies: []))
    refuses(ConfigurationChange(adding: [TestDatabase.sa(1001), TestDatabase.sa(1001)], policies: []))
    refuses(ConfigurationChange(adding: (1001...1003).map { TestDatabase.sa($0) }, policies: []))
    let empty = PolicyParameters(direction: .out, selector: TestDatabase.traffic.mirrored)
    refuses(ConfigurationChange(adding: [TestDatabase.sa(1001)], policies: [empty]))
    var missing = ConfigurationChange(adding: [TestDatabase.sa(1001)], policies: [])
    missing.removedSAs = [TestDatabase.id(4711)]
    refuses(missing)
    missing.removedSAs = []
    missing.removedPolicies = [.init(direction: .in, selector: TestDatabase.traffic)]
    refuses(missing)
    // A full table can be replaced by another full one.
    try test.database.apply(
      ConfigurationChange(adding: [TestDatabase.sa(1001), TestDatabase.sa(1002)], policies: []), origin: 0)
    let change = test.database.change(
      toConfiguration: (2001...2003).map { TestDatabase.sa($0) }, policies: [TestDatabase.flow()])
    try test.database.apply(change, origin: 0)
    #expect(test.database.records().map(\.parameters.spi) == [2001, 2002, 2003])
    #expect(test.outboundSPI() == 2003)
  }

  @Test func bundlesOfAConfiguration() throws {
    let test = TestDatabase()
    let sas = [TestDatabase.sa(1000), TestDatabase.sa(1001, saProtocol: .ah, mode: .transport)]
    let bundles = [
      ConfigurationChange.Bundle(first: sas[0].identifier, then: sas[1].identifier)
    ]
    try test.database.apply(
      ConfigurationChange(adding: sas, policies: [TestDatabase.flow()], bundles: bundles), origin: 0)
    #expect(chain(test) == [1000, 1001])
    #expect(
      test.database.change(toConfiguration: sas, policies: [TestDatabase.flow()], bundles: bundles).isEmpty)
  }
}
