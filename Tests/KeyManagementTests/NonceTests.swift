import Engines
import Glibc
import IPsec
import Testing
import Wire

@testable import KeyManagement

/// Counter-mode keys, weak transforms and low SPIs by each key socket, before the database itself.
struct NonceTests {
  private let store = SecurityDatabase(engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
  private final class Answers { var last: [UInt8] = [] }
  private let answers = Answers()
  private let xfrm: XFRMService
  private let pfkey: PFKeyService
  private let xfrmSession: XFRMSession
  private let pfkeySession: PFKeySession

  init() {
    let answers = answers
    (xfrm, pfkey) = (XFRMService(store: store), PFKeyService(store: store))
    xfrmSession = xfrm.makeSession(owner: .xfrm(1), origin: 1) { datagram, kind in
      if kind == .reply { answers.last = datagram }
    }
    pfkeySession = pfkey.makeSession(owner: .pfkey(2), origin: 2) { datagram, kind in
      if kind == .reply { answers.last = datagram }
    }
    // Asks for texts.
    var hello = ByteBuilder()
    hello.netlink(NetlinkHeader(type: NetlinkHeader.noOperation)) {
      let options: XFRMHello.Options = .extendedAcknowledgements
      XFRMHello(port: 4711, join: 0, options: options, stated: options).encode(into: &$0)
    }
    hello.bytes.withUnsafeBytes { xfrmSession.receive($0) }
  }

  private func xfrm(_ datagram: [UInt8]) -> (code: Int32?, text: String) {
    datagram.withUnsafeBytes { xfrmSession.receive($0) }
    return (netlinkError(answers.last), String(decoding: answers.last, as: UTF8.self))
  }

  private func pfkey(_ datagram: [UInt8]) -> UInt8 {
    datagram.withUnsafeBytes { pfkeySession.receive($0) }
    return answers.last[2]
  }

  private func pfkeySA(
    _ type: PFKeyMessageType, _ spi: UInt32, encryption: UInt8 = 20, key: [UInt8] = Charon.gcmKey(2)
  ) -> [UInt8] {
    PFKeyProbe.message(type) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        (sa.spi, sa.replay, sa.encryption) = (spi, 64, encryption)
        sa.encode(into: &builder)
      }
      Iked.appendSA2(mode: 2, to: &builder)
      Iked.append(.source, Charon.a, to: &builder)
      Iked.append(.destination, Charon.b, to: &builder)
      Iked.appendKey(.encryptionKey, key, to: &builder)
    }
  }

  private func larval(_ spi: UInt32) throws {
    let template = SAParameters(spi: 0, source: Charon.a, destination: Charon.b, owner: .xfrm(1))
    #expect(try store.allocateSPI(template, in: spi...spi, origin: 0) == spi)
  }

  @Test func aSecondSAWithTheKeyIsRefusedEachWay() throws {
    #expect(xfrm(Charon.newSA(0xc000_0001)).code == 0)
    let refused = xfrm(Charon.newSA(0xc000_0002))
    #expect(refused.code == EEXIST)
    #expect(refused.text.contains("has this counter-mode key already, and both would use the same nonces"))
    try larval(0xc000_0003)
    let update = XFRMProbe.message(.updateSA) { builder in
      Charon.info(0xc000_0003, from: Charon.a, to: Charon.b, soft: (0, 0)).encode(into: &builder)
      Charon.appendGCM(&builder, seed: 2, window: 32)
    }
    #expect(xfrm(update).code == EEXIST)
    #expect(pfkey(pfkeySA(.add, 0x2000)) == UInt8(EEXIST))
    #expect(pfkey(pfkeySA(.update, 0xc000_0003)) == UInt8(EEXIST))
    #expect(store.records().filter { $0.state == .mature }.count == 1)
    // The peer's way back with the same key is the other end's affair, and another key is free.
    store.isOwnAddress = { $0 == Charon.a }
    let back = XFRMProbe.message(.newSA) { builder in
      Charon.info(0xc000_0004, from: Charon.b, to: Charon.a, soft: (0, 0)).encode(into: &builder)
      Charon.appendGCM(&builder, seed: 2, window: 32)
    }
    #expect(xfrm(back).code == 0)
    #expect(pfkey(pfkeySA(.add, 0x2000, key: Charon.gcmKey(9))) == 0)
  }

  /// A peer that moves takes its SA along, and the numbers go on.
  @Test func migrationIsNoSecondSA() throws {
    #expect(xfrm(Charon.newSA(0xc000_0001)).code == 0)
    #expect(xfrm(Charon.policy(.newPolicy, direction: 1)).code == 0)
    try store.setSequence(
      SAIdentifier(spi: 0xc000_0001, destination: Charon.b), sequence: 5000, replayHighest: 0)
    #expect(xfrm(XFRMProbe.message(.migrate) { Charon.appendMigration(&$0) }).code == 0)
    let moved = try #require(store.record(SAIdentifier(spi: 0xc000_0001, destination: "10.9.0.9")))
    #expect(moved.sequence >= 5000 + 65_536)
  }

  @Test func encryptionAloneNeedsAllowWeak() {
    let cbc = XFRMProbe.message(.newSA) { builder in
      var info = Charon.info(0xc000_0001, from: Charon.a, to: Charon.b, soft: (0, 0))
      info.flags = [.anyFamily]
      info.encode(into: &builder)
      builder.attribute(.encryption) {
        XFRMAlgorithm("cbc(aes)", key: SecretBytes(0..<16)).encode(into: &$0, shape: .plain)
      }
    }
    let refused = xfrm(cbc)
    #expect(refused.code == EOPNOTSUPP && refused.text.contains("enc without auth"))
    let pfkeyCBC = pfkeySA(.add, 0x2000, encryption: 12, key: Array(0..<16))
    #expect(pfkey(pfkeyCBC) == UInt8(EOPNOTSUPP))
    let ctr = pfkeySA(.add, 0x2001, encryption: 13, key: Array(0..<20))
    #expect(pfkey(ctr) == UInt8(EOPNOTSUPP))
    #expect(store.saCount() == 0)
    store.permits.weakAlgorithms = true
    #expect(xfrm(cbc).code == 0)
    #expect(pfkey(pfkeyCBC) == 0)
    #expect(pfkey(ctr) == 0)
  }

  @Test func lowSPIsNeedASetting() throws {
    let low = Charon.newSA(7)
    let refused = xfrm(low)
    #expect(refused.code == EINVAL && refused.text.contains("`low-spis: true` in gateway.yaml permits it"))
    #expect(throws: KeyRefusal.self) { try SPIRange.usable(1, 255, .esp, KeyPolicy()) }
    store.permits.lowSPIs = true
    var policy = KeyPolicy()
    policy.allowsLowSPIs = true
    #expect(xfrm(low).code == 0)
    #expect(pfkey(pfkeySA(.add, 8, key: Charon.gcmKey(9))) == 0)
    #expect(try SPIRange.usable(1, 255, .esp, policy) == 1...255)
    #expect(throws: KeyRefusal.self) { try SPIRange.usable(1, 255, .ipcomp, policy) }
    #expect(throws: KeyRefusal.self) { try SPIRange.usable(0, 0, .esp, policy) }
  }
}
