import Engines
import Glibc
import Testing
import Wire

@testable import IPsec
@testable import KeyManagement

/// iked's conversation on Linux, and RFC 2367's rules.
struct PFKeySessionTests {
  private func errno(_ replies: [[UInt8]]) -> Int32? { replies.first.map { Int32($0[2]) } }

  private func registered() -> PFKeyProbe {
    let probe = PFKeyProbe()
    _ = probe.request(.register, .esp)
    return probe
  }

  @Test func lengthsOfTheTrace() {
    #expect(Iked.getSPI(from: Iked.b, to: Iked.a).count == 80)
    #expect(Iked.sa(.add, 1, from: Iked.a, to: Iked.b).count == 272)
    #expect(Iked.sa(.add, 1, from: Iked.a, to: Iked.b, natPort: 4501).count == 296)
    #expect(Iked.policy(.policyUpdate, direction: 2).count == 144)
    #expect(Iked.named(.delete, 1, from: Iked.a, to: Iked.b).count == 96)
    #expect(Iked.named(.get, 1, from: Iked.a, to: Iked.b).count == 80)
  }

  @Test func ikedEstablishes() throws {
    let probe = PFKeyProbe()
    #expect(errno(probe.request(.flush, nil, sequence: 1)) == 0)
    for saProtocol in [SAProtocol.esp, .ah] {
      let reply = probe.request(.register, saProtocol)
      #expect(errno(reply) == 0 && extensionTypes(reply.first) == [.supportedAuthentication, .supportedEncryption])
    }
    let reply = try #require(probe.send(Iked.getSPI(from: Iked.b, to: Iked.a)).first)
    #expect(reply[2] == 0 && extensionTypes(reply) == [.sa, .source, .destination])
    // Sequence and process come back.
    #expect(Array(reply[8..<16]) == [4, 0, 0, 0, 0x8c, 0x3c, 0, 0])
    let inbound = try #require(probe.store.records().first).parameters.spi
    #expect(inbound >= 0x100)

    // The responder updates before it adds.
    #expect(errno(probe.send(Iked.sa(.update, inbound, from: Iked.b, to: Iked.a))) == 0)
    let added = probe.send(Iked.sa(.add, 0xc029_c601, from: Iked.a, to: Iked.b))
    #expect(errno(added) == 0)
    // No keys in the answer.
    #expect(
      extensionTypes(added.first)
        == [.sa, .lifetimeCurrent, .lifetimeHard, .lifetimeSoft, .source, .destination, .sa2])
    for direction in [3, 2, 1] as [UInt8] {
      #expect(errno(probe.send(Iked.policy(.policyUpdate, direction: direction))) == 0)
    }

    let sa = try #require(probe.store.record(SAIdentifier(spi: inbound, destination: Iked.a)))
    #expect(sa.state == .mature && sa.parameters.mode == .tunnel && sa.parameters.replayWindow == 64)
    #expect(sa.parameters.transform.encryption == .aesCBC && sa.parameters.transform.authentication == .hmacSHA512)
    #expect(sa.parameters.transform.encryptionKey == SecretBytes(Iked.encryptionKey))
    #expect(sa.parameters.transform.authenticationKey == SecretBytes(Iked.authenticationKey))
    #expect(sa.parameters.hard == Lifetime(bytes: 524_288_000, addTime: 3600))
    let directions = probe.store.entries.map(\.parameters.direction)
    #expect(directions == [.forward, .out, .in])
    let out = try #require(probe.store.entries.first { $0.parameters.direction == .out }).parameters
    #expect(out.templates == [SATemplate(source: Iked.a, destination: Iked.b)] && out.selector.ipProtocol == nil)
    #expect(out.local == Iked.a && out.peer == Iked.b && out.type == .require)
    #expect(out.selector.source == "10.9.1.0/24" && out.selector.destination == "10.9.2.0/24")
  }

  /// `setkey -E null`: a key of no bits, which other algorithms do not take.
  @Test(arguments: [(11, 0), (12, EINVAL)] as [(UInt8, Int32)])
  func aKeyOfNoBits(_ encryption: UInt8, _ code: Int32) throws {
    let probe = PFKeyProbe()
    let replies = probe.request(.add) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        (sa.spi, sa.authentication, sa.encryption) = (0x1001, 7, encryption)
        sa.encode(into: &builder)
      }
      Iked.append(.source, Iked.a, to: &builder)
      Iked.append(.destination, Iked.b, to: &builder)
      Iked.appendKey(.encryptionKey, [], to: &builder)
      Iked.appendKey(.authenticationKey, Iked.authenticationKey, to: &builder)
    }
    #expect(errno(replies) == code)
    guard code == 0 else { return }
    let transform = try #require(probe.store.records().first).parameters.transform
    #expect(transform.encryption == .null && transform.encryptionKey.count == 0)
    #expect(transform.authentication == .hmacSHA512)
  }

  @Test func natTraversal() throws {
    let probe = PFKeyProbe()
    #expect(errno(probe.send(Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b, natPort: 4501))) == 0)
    let record = try #require(probe.store.records().first)
    #expect(record.parameters.encapsulation == UDPEncapsulation(sourcePort: 4500, destinationPort: 4501))
    let got = probe.send(Iked.named(.get, 0x1001, from: Iked.a, to: Iked.b)).first
    #expect(extensionPayload(.natDestinationPort, of: got) == [0x11, 0x95, 0, 0])
  }

  @Test func getHasKeysAndCounters() throws {
    let probe = PFKeyProbe()
    _ = probe.send(Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b))
    let id = SAIdentifier(spi: 0x1001, destination: Iked.b)
    probe.store.sas[id]?.usage.bytes = 1000
    probe.store.sas[id]?.usage.firstUsed = 1_700_000_123
    let reply = probe.send(Iked.named(.get, 0x1001, from: Iked.a, to: Iked.b)).first
    let key = try #require(extensionPayload(.encryptionKey, of: reply))
    #expect(Array(key[4...]) == Iked.encryptionKey)
    let current = try #require(extensionPayload(.lifetimeCurrent, of: reply))
    #expect(Array(current[4..<12]) == [0xe8, 3, 0, 0, 0, 0, 0, 0])
  }

  @Test func policiesById() throws {
    let probe = PFKeyProbe()
    let reply = probe.send(Iked.policy(.policyUpdate, direction: 2)).first
    let policy = try #require(extensionPayload(.policy, of: reply))
    let index = try #require(probe.store.entries.first).index
    #expect(policy[4] == UInt8(index) && policy.count == 60)
    func named(_ type: PFKeyMessageType, _ index: UInt32) -> [[UInt8]] {
      probe.request(type, nil) { builder in
        builder.pfkeyExtension(.policy) { builder in
          builder.append(UInt32(0))
          builder.append(index)
          builder.append(UInt32(0))
        }
      }
    }
    #expect(PFKeyProbe.message(.policyGet, nil) { $0.pfkeyExtension(.policy) { $0.zeros(12) } }.count == 32)
    let got = named(.policyGet, index)
    #expect(errno(got) == 0 && extensionPayload(.policy, of: got.first) == policy)
    #expect(extensionTypes(got.first) == [.lifetimeCurrent, .source, .destination, .policy])
    #expect(errno(named(.policyGet, index + 8)) == ENOENT)
    #expect(errno(named(.policyGet, 0)) == EINVAL)
    #expect(errno(named(.policyDeleteByID, index)) == 0 && probe.store.entries.isEmpty)
  }

  @Test func acquireAndExpire() throws {
    let probe = registered()
    _ = probe.send(Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b))
    _ = probe.send(Iked.policy(.policyUpdate, direction: 2))
    let record = try #require(probe.store.records().first)
    probe.store.emit(.saExpired(record, hard: false))
    let expire = try #require(probe.notices.last)
    #expect(expire[1] == PFKeyMessageType.expire.number(.linux) && expire[3] == 3)
    #expect(extensionTypes(expire).starts(with: [.sa, .lifetimeCurrent, .lifetimeSoft, .source, .destination]))
    #expect(Array(expire[12..<16]) == [0, 0, 0, 0])
    probe.store.emit(.saExpired(record, hard: true))
    #expect(extensionTypes(probe.notices.last).contains(.lifetimeHard))

    let policy = try #require(probe.store.policies().first)
    probe.store.emit(
      .acquire(
        AcquireRequest(
          sequence: 99, policy: policy, template: policy.parameters.templates[0], packet: policy.parameters.selector)))
    let acquire = try #require(probe.notices.last)
    #expect(acquire[1] == 6 && acquire[8] == 99)
    #expect(extensionTypes(acquire) == [.source, .destination, .proposal, .policy])
    let named = try #require(extensionPayload(.policy, of: acquire))
    #expect(named[2] == 2 && named[4] == UInt8(policy.index))
    #expect(extensionPayload(.proposal, of: acquire)?.count == 4 + 72)
  }

  /// What the other kind of daemon installed does not concern this one.
  @Test func otherDaemonsExpiries() throws {
    let probe = registered()
    var sa = SAParameters(spi: 0x1001, source: Iked.a, destination: Iked.b, owner: .xfrm(1))
    probe.store.emit(.saExpired(SARecord(parameters: sa, state: .dying), hard: false))
    #expect(probe.notices.isEmpty)
    sa.owner = .configuration
    probe.store.emit(.saExpired(SARecord(parameters: sa, state: .dying), hard: false))
    #expect(probe.notices.count == 1)
  }

  @Test func broadcastsGoToTheRegistered() {
    let speaker = PFKeyProbe()
    let listener = PFKeyProbe(sharing: speaker)
    _ = speaker.send(Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b))
    #expect(listener.notices.isEmpty)
    _ = listener.request(.register, .esp)
    _ = speaker.request(.register, .esp)
    _ = speaker.send(Iked.sa(.add, 0x1002, from: Iked.a, to: Iked.b))
    #expect(listener.notices.map { $0[1] } == [3] && speaker.notices.isEmpty)
    _ = speaker.send(Iked.named(.delete, 0x1002, from: Iked.a, to: Iked.b))
    #expect(listener.notices.map { $0[1] } == [3, 4])
    _ = speaker.request(.flush, nil)
    #expect(listener.notices.last?[1] == 9)
  }

  @Test func promiscuity() {
    let speaker = PFKeyProbe()
    let listener = PFKeyProbe(sharing: speaker)
    #expect(errno(listener.send([2, 11, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0])) == 0)
    listener.clear()
    let request = Iked.named(.get, 0x1001, from: Iked.a, to: Iked.b)
    let reply = speaker.send(request)
    #expect(listener.notices == [request] + reply)
    #expect(errno(listener.send([2, 11, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0])) == 0)
    listener.clear()
    _ = speaker.send(request)
    #expect(listener.notices.isEmpty)
  }

  /// iked's FLUSH at its start leaves what ipsec.conf and charon installed.
  @Test func flushReachesItsOwn() throws {
    let probe = PFKeyProbe()
    for (index, owner) in [Owner.configuration, .xfrm(1), .pfkey(9)].enumerated() {
      try probe.store.add(
        SAParameters(spi: 0x1000 + UInt32(index), source: Iked.a, destination: Iked.b, owner: owner), origin: 0)
    }
    _ = probe.request(.flush, nil)
    #expect(probe.store.records().map(\.parameters.owner) == [.configuration, .xfrm(1)])
    let all = PFKeyProbe(
      policy: {
        var policy = KeyPolicy()
        policy.pfkeyFlush = .everything
        return policy
      }())
    try all.store.add(SAParameters(spi: 0x1000, source: Iked.a, destination: Iked.b), origin: 0)
    _ = all.request(.flush, .ah)
    #expect(all.store.saCount() == 1)
    _ = all.request(.flush, nil)
    #expect(all.store.saCount() == 0)
  }

  @Test func dumps() throws {
    let probe = PFKeyProbe()
    #expect(errno(probe.request(.dump, nil)) == ENOENT)
    for spi in 0x1001...0x1005 as ClosedRange<UInt32> { _ = probe.send(Iked.sa(.add, spi, from: Iked.a, to: Iked.b)) }
    let datagrams = probe.request(.dump, .esp)
    #expect(datagrams.map { $0[8] } == [4, 3, 2, 1, 0])
    #expect(datagrams.allSatisfy { extensionTypes($0).contains(.authenticationKey) })
    #expect(errno(probe.request(.dump, .ah)) == ENOENT)
    _ = probe.send(Iked.policy(.policyUpdate, direction: 1))
    #expect(probe.request(.policyDump, nil).count == 1)
    _ = probe.request(.policyFlush, nil)
    #expect(errno(probe.request(.policyDump, nil)) == ENOENT)
  }

  /// strongSwan's kernel-pfkey: GCM by number, level unique with its reqid, SPDADD.
  @Test func kernelPFKey() throws {
    let probe = PFKeyProbe()
    let reply = probe.request(.add, .esp) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        (sa.spi, sa.encryption) = (0x1001, 20)
        sa.encode(into: &builder)
      }
      builder.pfkeyExtension(.sa2) { builder in
        builder.append(bytes: [2, 0, 0, 0, 0, 0, 0, 0])
        builder.append(UInt32(1))
      }
      Iked.append(.source, Iked.a, to: &builder)
      Iked.append(.destination, Iked.b, to: &builder)
      builder.pfkeyExtension(.encryptionKey) { builder in
        builder.append(UInt16(288))
        builder.zeros(2)
        builder.append(bytes: 0..<36)
      }
    }
    #expect(errno(reply) == 0)
    let sa = try #require(probe.store.records().first).parameters
    #expect(sa.transform.encryption == .aesGCM16 && sa.requestID == 1 && sa.transform.encryptionKey.count == 36)
    var policy = Iked.policy(.policyAdd, direction: 2)
    let request = policy.count - 48
    policy[request + 5] = 3
    policy[request + 8] = 1
    #expect(errno(probe.send(policy)) == 0)
    #expect(probe.store.entries.first?.parameters.templates.first?.requestID == 1)
    #expect(errno(probe.send(policy)) == EEXIST)
  }
}
