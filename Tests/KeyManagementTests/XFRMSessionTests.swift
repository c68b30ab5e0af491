import Engines
import Glibc
import Testing
import Wire

@testable import IPsec
@testable import KeyManagement

/// charon's and libreswan's conversations, and the pitfalls met on the way.
struct XFRMSessionTests {
  @Test func lengthsOfTheTrace() {
    #expect(Charon.allocateSPI().count == 248)
    #expect(Charon.updateSA(1).count == 384)
    #expect(Charon.policy(.newPolicy, direction: 1).count == 252)
    #expect(Charon.policyID(.deletePolicy, direction: 1).count == 80)
    #expect(Charon.id(.getSA, 1, to: Charon.a).count == 40)
  }

  @Test func charonEstablishes() throws {
    let probe = XFRMProbe()
    let reply = try #require(probe.send(Charon.allocateSPI()).first)
    #expect(netlinkType(reply) == XFRMMessageType.newSA.rawValue)
    let spi = reply.withUnsafeBytes { bytes in
      var cursor = ByteCursor(UnsafeRawBufferPointer(rebasing: bytes[16...]))
      return XFRMSAInfo(from: &cursor).spi
    }
    #expect((0xc000_0000...0xcfff_ffff).contains(spi))

    #expect(netlinkError(probe.send(Charon.updateSA(spi)).first) == 0)
    #expect(netlinkError(probe.send(Charon.newSA(0xc0c5_3601)).first) == 0)
    for direction in [0, 2, 1] as [UInt8] {
      let pinned: UInt32 = direction == 1 ? 0xc0c5_3601 : 0
      #expect(netlinkError(probe.send(Charon.policy(.newPolicy, direction: direction, spi: pinned)).first) == 0)
    }

    let inbound = try #require(probe.store.record(SAIdentifier(spi: spi, destination: Charon.a)))
    #expect(inbound.state == .mature && inbound.parameters.mode == .tunnel && inbound.parameters.requestID == 1)
    #expect(inbound.parameters.transform.encryption == .aesGCM16)
    #expect(inbound.parameters.transform.encryptionKey == SecretBytes(Charon.gcmKey(1)))
    #expect(inbound.parameters.extendedSequenceNumbers && inbound.parameters.replayWindow == 32)
    #expect(inbound.parameters.soft == Lifetime(bytes: 975_671_044, addTime: 3284))
    #expect(inbound.parameters.hard == Lifetime(bytes: 1_100_000_000, addTime: 3960))
    #expect(inbound.parameters.selector == nil && inbound.parameters.owner == .xfrm(1))

    let out = try #require(probe.store.entries.first { $0.parameters.direction == .out })
    #expect(out.parameters.templates.first?.spi == 0xc0c5_3601 && out.parameters.priority == 375_423)
    #expect(out.parameters.local == Charon.a && out.parameters.peer == Charon.b && out.parameters.type == .require)
    let incoming = try #require(probe.store.entries.first { $0.parameters.direction == .in })
    #expect(incoming.parameters.local == Charon.a && incoming.parameters.peer == Charon.b)
  }

  /// GETSA gives back every attribute that was set, byte for byte.
  @Test func everythingComesBack() throws {
    let probe = XFRMProbe()
    let request = XFRMProbe.message(.newSA) { builder in
      var info = Charon.info(0xc000_0042, from: Charon.a, to: Charon.b, soft: (10, 20))
      info.flags = [.noPMTUDiscovery, .anyFamily, .noECN]
      info.encode(into: &builder)
      builder.attribute(.encryption) {
        XFRMAlgorithm("cbc(aes)", key: SecretBytes(0..<16)).encode(into: &$0, shape: .plain)
      }
      builder.attribute(.authenticationTruncated) {
        XFRMAlgorithm("hmac(sha256)", key: SecretBytes(0..<32), icvBits: 128).encode(into: &$0, shape: .withICV)
      }
      builder.attribute(.encapsulation) { builder in
        builder.append(UInt16(2))
        builder.appendBig(UInt16(4500))
        builder.appendBig(UInt16(4501))
        builder.zeros(2 + 16)
      }
      builder.attribute(.extraFlags) { $0.append(UInt32(1)) }
      builder.attribute(.mark) { $0.append(UInt64(0xffff_ffff_0000_0005)) }
      builder.attribute(.interfaceID) { $0.append(UInt32(9)) }
      builder.attribute(.tfcPadding) { $0.append(UInt32.max) }
      builder.attribute(.mappingThreshold) { $0.append(UInt32(60)) }
      builder.attribute(.cpu) { $0.append(UInt32(3)) }
      builder.attribute(.replayESNValue) { builder in
        for word in [4, 0, 0, 0, 0, 128, 0, 0, 0, 0] as [UInt32] { builder.append(word) }
      }
    }
    #expect(netlinkError(probe.send(request).first) == 0)
    let reply = try #require(probe.send(Charon.id(.getSA, 0xc000_0042, to: Charon.b)).first)
    for type: XFRMAttributeType in [
      .encryption, .authenticationTruncated, .encapsulation, .extraFlags, .mark, .interfaceID, .tfcPadding,
      .mappingThreshold, .cpu, .replayESNValue,
    ] {
      let sent = try #require(attribute(type, of: request, after: XFRMSAInfo.length))
      #expect(attribute(type, of: reply, after: XFRMSAInfo.length) == sent, "\(type)")
    }
    // The fixed part too, but for the time of its making.
    let fixed = 16..<16 + 160
    #expect(Array(reply[fixed]) == Array(request[fixed]))
    #expect(Array(reply[16 + 204..<16 + 224]) == Array(request[16 + 204..<16 + 224]))
    let record = try #require(probe.store.records().first)
    #expect(record.parameters.dscp == 0 && !record.parameters.ecn && record.parameters.df == .clear)
    #expect(record.parameters.mark == Mark(value: 5, mask: .max) && record.parameters.interfaceID == 9)
    #expect(record.parameters.encapsulation == UDPEncapsulation(sourcePort: 4500, destinationPort: 4501))
  }

  /// Two REPLAY_ESN_VAL after a MAPPING: the last counts.
  @Test func lastDuplicateCounts() throws {
    let probe = XFRMProbe()
    let replies = probe.request(.newSA) { builder in
      Charon.info(0xc000_0001, from: Charon.a, to: Charon.b, soft: (0, 0)).encode(into: &builder)
      Charon.appendGCM(&builder, seed: 1, window: 1)
      builder.attribute(.replayESNValue) { builder in
        for word in [2, 1234, 0, 1, 0, 64, 0, 0] as [UInt32] { builder.append(word) }
      }
    }
    #expect(netlinkError(replies.first) == 0)
    #expect(probe.store.records().first?.parameters.replayWindow == 64)
    #expect(try #require(probe.store.records().first).parameters.sequence == 1 << 32 | 1234)
  }

  @Test func upsertAndDuplicatePolicies() {
    let probe = XFRMProbe()
    #expect(netlinkError(probe.send(Charon.policy(.updatePolicy, direction: 1)).first) == 0)
    #expect(netlinkError(probe.send(Charon.policy(.newPolicy, direction: 1)).first) == EEXIST)
    #expect(netlinkError(probe.send(Charon.policy(.updatePolicy, direction: 1, spi: 5)).first) == 0)
    #expect(probe.store.entries.count == 1 && probe.store.entries.first?.parameters.templates.first?.spi == 5)
    #expect(netlinkError(probe.send(Charon.policyID(.deletePolicy, direction: 1)).first) == 0)
    #expect(netlinkError(probe.send(Charon.policyID(.deletePolicy, direction: 1)).first) == ENOENT)
    #expect(netlinkError(probe.send(Charon.policyID(.getPolicy, direction: 1)).first) == ENOENT)
  }

  /// ALLOCSPI carries no IF_ID but the matching DELSA does.
  @Test func deletingALarvalSA() throws {
    let probe = XFRMProbe()
    _ = probe.send(Charon.allocateSPI())
    let spi = try #require(probe.store.records().first).parameters.spi
    let replies = probe.request(.deleteSA) { builder in
      var id = XFRMSAID()
      (id.destination, id.spi, id.family, id.ipProtocol) = (XFRMAddress(Charon.a), spi, 2, 50)
      id.encode(into: &builder)
      builder.attribute(.interfaceID) { $0.append(UInt32(5)) }
      builder.attribute(.mark) { $0.append(UInt64.max) }
    }
    #expect(netlinkError(replies.first) == 0 && probe.store.sas.isEmpty)
  }

  @Test func libreswanStarts() {
    let probe = XFRMProbe()
    for type in [135, 136] as [UInt8] {
      for direction in 0..<3 as Range<UInt8> {
        let replies = probe.request(.updatePolicy) { builder in
          var info = XFRMPolicyInfo()
          info.selector = XFRMSelector(Selector(source: .any(.v6), destination: .any(.v6), ipProtocol: 58))
          (info.selector.sourcePort, info.selector.sourcePortMask) = (UInt16(type), 0xffff)
          (info.direction, info.priority) = (direction, 1)
          info.encode(into: &builder)
        }
        #expect(netlinkError(replies.first) == 0)
      }
    }
    #expect(probe.store.entries.count == 6 && probe.store.entries.allSatisfy { $0.parameters.type == .bypass })
    #expect(probe.store.entries.first?.parameters.selector.sourcePorts == 135...135)
  }

  @Test func spdInfo() throws {
    let probe = XFRMProbe()
    _ = probe.send(Charon.policy(.newPolicy, direction: 1))
    let reply = try #require(probe.request(.getSPDInfo, flags: .request) { $0.append(UInt32(0)) }.first)
    #expect(netlinkType(reply) == XFRMMessageType.newSPDInfo.rawValue)
    #expect(reply.count == 16 + 4 + 28 + 12 + 8 + 8)
    #expect(Array(reply[24..<36]) == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test func replayState() throws {
    let probe = XFRMProbe()
    _ = probe.send(Charon.newSA(0xc000_0001))
    let id = SAIdentifier(spi: 0xc000_0001, destination: Charon.b)
    probe.store.sas[id]?.sequence = 1 << 32 | 40
    probe.store.sas[id]?.counters.outputPackets = 40
    func event(_ type: XFRMMessageType, flags: NetlinkHeader.Flags) -> [UInt8] {
      XFRMProbe.message(type, flags: flags) { builder in
        var event = XFRMAEventID()
        event.sa.destination = XFRMAddress(Charon.b)
        (event.sa.spi, event.sa.family, event.sa.ipProtocol) = (id.spi, 2, 50)
        event.encode(into: &builder)
        guard type == .newAE else { return }
        builder.attribute(.replayESNValue) { builder in
          for word in [1, 50, 0, 1, 0, 1, 0] as [UInt32] { builder.append(word) }
        }
      }
    }
    #expect(event(.getAE, flags: .request).count == 64)
    let reply = try #require(probe.send(event(.getAE, flags: .request)).first)
    #expect(netlinkType(reply) == XFRMMessageType.newAE.rawValue)
    let replay = try #require(attribute(.replayESNValue, of: reply, after: XFRMAEventID.length))
    #expect(Array(replay[4..<8]) == [40, 0, 0, 0] && Array(replay[12..<16]) == [1, 0, 0, 0])
    #expect(netlinkError(probe.send(event(.newAE, flags: [.request, .acknowledge])).first) == EINVAL)
    #expect(netlinkError(probe.send(event(.newAE, flags: [.request, .acknowledge, .replace])).first) == 0)
    #expect(try #require(probe.store.sas[id]).sequence == 1 << 32 | 50)
  }

  /// The kernel's bitmap: bit (sequence - 1) modulo the window.
  @Test func replayBitmap() {
    var record = SARecord(
      parameters: SAParameters(spi: 256, source: Charon.b, destination: Charon.a), state: .mature)
    record.sequence = 70
    record.replayBitmap = 0b101
    let replay = XFRMReplayESN(record, window: 64, isOutbound: false)
    #expect(replay.inSequence == 70 && replay.bitmap == [1 << 5 | 1 << 3, 0])
  }

  /// An SA that is deleted and added again with its key does not repeat nonces, on whichever socket.
  @Test func noncesAreNotRepeated() throws {
    let store = SecurityDatabase(engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
    let xfrm = XFRMService(store: store).makeSession(owner: .xfrm(1), origin: 1) { _, _ in }
    let pfkey = PFKeyService(store: store).makeSession(owner: .pfkey(2), origin: 2) { _, _ in }
    func send(_ session: any KeySession, _ datagram: [UInt8]) { datagram.withUnsafeBytes { session.receive($0) } }
    let id = SAIdentifier(spi: 0xc000_0001, destination: Charon.b)
    send(xfrm, Charon.newSA(id.spi))
    let key = try #require(store.record(id)).parameters.transform.encryptionKey
    try store.setSequence(id, sequence: 5000, replayHighest: 0)
    send(xfrm, Charon.id(.deleteSA, id.spi, to: Charon.b))
    #expect(store.record(id) == nil)
    send(xfrm, Charon.newSA(id.spi))
    let second = try #require(store.record(id)).sequence
    #expect(second > 5000)
    send(xfrm, Charon.id(.deleteSA, id.spi, to: Charon.b))
    let message = PFKeyProbe.message(.add) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        (sa.spi, sa.replay, sa.encryption) = (0x2000, 64, 20)
        sa.encode(into: &builder)
      }
      Iked.appendSA2(mode: 2, to: &builder)
      Iked.append(.source, Charon.a, to: &builder)
      Iked.append(.destination, Charon.b, to: &builder)
      Iked.appendKey(.encryptionKey, Array(key.bytes), to: &builder)
    }
    send(pfkey, message)
    let third = try #require(store.record(SAIdentifier(spi: 0x2000, destination: Charon.b)))
    #expect(third.parameters.transform.encryption == .aesGCM16 && third.sequence > second)
  }

  @Test func migration() throws {
    let probe = XFRMProbe()
    probe.join(.migrate)
    _ = probe.send(Charon.newSA(0xc000_0001))
    _ = probe.send(Charon.policy(.newPolicy, direction: 1))
    func message(_ requestID: UInt32) -> [UInt8] {
      XFRMProbe.message(.migrate) { Charon.appendMigration(&$0, requestID: requestID) }
    }
    #expect(netlinkError(probe.send(message(2)).first) == ENODATA)
    #expect(netlinkError(probe.send(message(1)).first) == 0)
    #expect(probe.store.records().map(\.parameters.destination) == ["10.9.0.9"])
    #expect(probe.store.entries.first?.parameters.templates.first?.destination == "10.9.0.9")
    #expect(probe.notices.contains { netlinkType($0) == XFRMMessageType.migrate.rawValue })
  }

  // MARK: Events

  @Test func events() throws {
    let probe = XFRMProbe()
    _ = probe.send(Charon.newSA(0xc000_0001))
    _ = probe.send(Charon.policy(.newPolicy, direction: 1))
    probe.join(.acquire, .expire, .mapping)
    let record = try #require(probe.store.records().first)
    probe.store.emit(.saExpired(record, hard: true))
    #expect(probe.notices.last?.count == 248 && probe.notices.last?[16 + 224] == 1)
    let policy = try #require(probe.store.policies().first)
    let packet = Selector(source: "10.9.1.7", destination: "10.9.2.7", ipProtocol: 1)
    probe.store.emit(
      .acquire(AcquireRequest(sequence: 77, policy: policy, template: policy.parameters.templates[0], packet: packet)))
    let acquire = try #require(probe.notices.last)
    #expect(netlinkType(acquire) == XFRMMessageType.acquire.rawValue && acquire.count >= 364)
    #expect(attribute(.templates, of: acquire, after: 280)?.count == 64)
    #expect(Array(acquire[16 + 276..<16 + 280]) == [77, 0, 0, 0])
    probe.store.emit(.mapping(record, newSource: "10.9.0.7", newPort: 4501))
    #expect(probe.notices.last?.count == 16 + 64)
    let before = probe.notices.count
    // Not joined.
    probe.store.emit(.saAdded(record))
    #expect(probe.notices.count == before)
  }

  @Test func mappingThreshold() throws {
    let probe = XFRMProbe()
    probe.join(.mapping)
    let throttle = MappingThrottle()
    let id = SAIdentifier(spi: 300, destination: Charon.a)
    #expect(throttle.mayAnnounce(id, threshold: 100) && !throttle.mayAnnounce(id, threshold: 100))
    #expect(throttle.mayAnnounce(id, threshold: 0) && throttle.mayAnnounce(id, threshold: 0))
  }

  // MARK: Netlink's manners

  @Test func extendedAcknowledgements() throws {
    let probe = XFRMProbe()
    let bad = XFRMProbe.message(.newSA) { builder in
      var info = Charon.info(0xc000_0001, from: Charon.a, to: Charon.b, soft: (0, 0))
      info.mode = 9
      info.encode(into: &builder)
    }
    let plain = try #require(probe.send(bad).first)
    #expect(netlinkError(plain) == EINVAL && plain.count == 16 + 4 + bad.count)
    probe.join(options: [.extendedAcknowledgements, .cappedAcknowledgements])
    let extended = try #require(probe.send(bad).first)
    #expect(String(decoding: extended, as: UTF8.self).contains("Unsupported mode 9"))
    #expect(extended[6] == 0 && extended[7] == 3)
  }

  @Test func acknowledgesOnlyWhereAsked() {
    let probe = XFRMProbe()
    let quiet = XFRMProbe.message(.flushSAs, flags: .request) { $0.append(UInt8(0)) }
    #expect(probe.send(quiet).isEmpty)
    #expect(netlinkError(probe.request(.flushSAs) { $0.append(UInt8(0)) }.first) == 0)
    // Several requests in one datagram.
    let both = Charon.newSA(0xc000_0001) + Charon.newSA(0xc000_0001)
    #expect(probe.send(both).map(netlinkError) == [0, EEXIST])
  }

  /// Clients send the fixed part of a request for one SA, of zeros; the kernel takes that for the end of the attributes.
  @Test func dumpWithAFixedPartOfZeros() {
    let probe = XFRMProbe()
    _ = probe.send(Charon.newSA(1000))
    let dumps = [0, XFRMSAID.length].map { length in
      probe.request(.getSA, flags: [.request, .dump]) { $0.append(bytes: [UInt8](repeating: 0, count: length)) }
    }
    #expect(dumps[0].count == dumps[1].count && dumps[0].map(\.count) == dumps[1].map(\.count))
    #expect(dumps[1].first?[4] == UInt8(XFRMMessageType.newSA.rawValue))
  }

  @Test func dumpIsBounded() {
    let probe = XFRMProbe()
    for spi in 1000..<1200 as Range<UInt32> { _ = probe.send(Charon.newSA(spi)) }
    let datagrams = probe.request(.getSA, flags: [.request, .dump]) { _ in }
    #expect(datagrams.count > 10 && datagrams.allSatisfy { $0.count <= 4096 })
    let done = NetlinkHeader.done
    #expect(datagrams.last.map { $0.suffix(20)[$0.count - 16] } == UInt8(done))
    var requests = 0
    for datagram in datagrams {
      datagram.withUnsafeBytes { bytes in
        var parsed = NetlinkRequests(bytes)
        while let message = parsed.next() { requests += message.header.type == XFRMMessageType.newSA.rawValue ? 1 : 0 }
      }
    }
    #expect(requests == 200)
  }
}
