import Foundation
import SeededRandom
import Testing

@testable import IPsec
@testable import KeyManagement

/// Hostile input to both codecs: never a trap, an answer where one is due, no change on refusal. `GW_FUZZ_SEED` runs one
/// seed again, `GW_FUZZ_ROUNDS` runs longer.
struct FuzzTests {
  private static let environment = ProcessInfo.processInfo.environment
  private static let seed = environment["GW_FUZZ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max)
  private static let rounds = environment["GW_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 3000

  private static let xfrm: [[UInt8]] = {
    var messages = [
      Charon.allocateSPI(), Charon.updateSA(0xc000_0001), Charon.newSA(0xc000_0002),
      Charon.id(.getSA, 0xc000_0002, to: Charon.b), Charon.id(.deleteSA, 0xc000_0002, to: Charon.b),
      XFRMProbe.message(.getSA, flags: [.request, .dump]) { _ in },
      XFRMProbe.message(.getPolicy, flags: [.request, .dump]) { _ in },
      XFRMProbe.message(.flushSAs) { $0.append(UInt8(0)) }, XFRMProbe.message(.flushPolicies) { _ in },
      XFRMProbe.message(.newSPDInfo) { builder in
        builder.append(UInt32(0))
        builder.attribute(3) { $0.append(bytes: [1, 2]) }
      },
      XFRMProbe.message(.getAE) { XFRMAEventID().encode(into: &$0) },
      XFRMProbe.message(.newAE, flags: [.request, .acknowledge, .replace]) { builder in
        XFRMAEventID().encode(into: &builder)
        builder.attribute(.replayValue) { $0.zeros(12) }
      },
      XFRMProbe.message(.migrate) { builder in
        XFRMPolicyID().encode(into: &builder)
        builder.attribute(.migrate) { XFRMMigration().encode(into: &$0) }
      },
    ]
    for direction in 0..<3 as Range<UInt8> {
      messages.append(Charon.policy(.newPolicy, direction: direction))
      messages.append(Charon.policy(.updatePolicy, direction: direction))
      messages.append(Charon.policyID(.getPolicy, direction: direction))
      messages.append(Charon.policyID(.deletePolicy, direction: direction))
    }
    return messages
  }()

  private static let pfkey: [[UInt8]] = {
    var messages = [
      Iked.getSPI(from: Iked.b, to: Iked.a), Iked.sa(.add, 0x1001, from: Iked.a, to: Iked.b),
      Iked.sa(.update, 0x1001, from: Iked.a, to: Iked.b, natPort: 4500),
      Iked.named(.get, 0x1001, from: Iked.a, to: Iked.b), Iked.named(.delete, 0x1001, from: Iked.a, to: Iked.b),
      PFKeyProbe.message(.register), PFKeyProbe.message(.dump), PFKeyProbe.message(.policyDump, nil),
      PFKeyProbe.message(.flush, nil), PFKeyProbe.message(.policyFlush, nil), PFKeyProbe.message(.promiscuous, nil),
      PFKeyProbe.message(.askPolicy, nil, dialect: .openBSD) { $0.pfkeyExtension(.askedPolicy) { $0.zeros(4) } },
      PFKeyProbe.message(.addFlow, .esp, dialect: .openBSD) { builder in
        PFKeyFlow(
          selector: Selector(source: "10.1.0.0/16", destination: "10.2.0.0/16"), type: .require, direction: .out
        ).append(to: &builder)
      },
    ]
    for direction in 1...3 as ClosedRange<UInt8> {
      messages.append(Iked.policy(.policyUpdate, direction: direction))
      messages.append(Iked.policy(.policyDelete, direction: direction))
    }
    return messages
  }()

  /// What Tests/Fuzz begins with: `GW_FUZZ_SEEDS` names the directory.
  @Test(.enabled(if: environment["GW_FUZZ_SEEDS"] != nil)) func writeSeeds() throws {
    let directory = URL(filePath: Self.environment["GW_FUZZ_SEEDS"] ?? "")
    func save(_ datagrams: [[UInt8]], _ target: String, _ name: String) throws {
      let folder = directory.appending(path: target)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let blocks = datagrams.flatMap { [UInt8($0.count >> 8), UInt8($0.count & 255)] + $0 }
      try Data(blocks).write(to: folder.appending(path: "seed-\(name)"))
    }
    for (index, message) in Self.xfrm.enumerated() { try save([message], "xfrm", "\(index)") }
    try save(Self.xfrm, "xfrm", "all")
    for dialect in PFKeyDialect.allCases {
      let greeting: [UInt8] = [2, 0, 0, dialect.rawValue, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      for (index, message) in Self.pfkey.enumerated() {
        try save([greeting, message], "pfkey", "\(dialect)-\(index)")
      }
      try save([greeting] + Self.pfkey, "pfkey", "\(dialect)-all")
    }
  }

  private func mutate(_ message: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
    var bytes = message
    for _ in 0..<Int.random(in: 1...4, using: &generator) {
      guard !bytes.isEmpty else { break }
      let at = Int.random(in: 0..<bytes.count, using: &generator)
      switch Int.random(in: 0..<6, using: &generator) {
      case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1: bytes[at] = UInt8.random(in: 0...255, using: &generator)
      case 2: bytes[at] = [0, 1, 4, 8, 127, 128, 254, 255].randomElement(using: &generator) ?? 0
      case 3: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...16, using: &generator)))
      case 4: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 32)], at: at)
      default:
        // A length field set to something near the truth.
        let even = at & ~1
        if even + 1 < bytes.count { bytes[even] = bytes[even] &+ UInt8.random(in: 252...255, using: &generator) }
      }
    }
    return bytes
  }

  @Test func xfrm() {
    print("XFRM fuzz seed \(Self.seed)")
    var generator = SeededGenerator(seed: Self.seed)
    let probe = XFRMProbe()
    for _ in 0..<Self.rounds {
      if probe.store.sas.count > 64 { probe.store.sas = [:] }
      let base = Self.xfrm.randomElement(using: &generator) ?? []
      let message = Bool.random(using: &generator) ? mutate(base, &generator) : base
      let before = probe.store.fingerprint
      let replies = probe.send(message)
      // One request that fills the datagram: others of it might have been carried out without a word.
      let length = message.count < 4 ? 0 : message.withUnsafeBytes { Int($0.loadUnaligned(as: UInt32.self)) }
      let refused = length == message.count && replies.count == 1 && (netlinkError(replies.first) ?? 0) != 0
      if refused { #expect(probe.store.fingerprint == before, "seed \(Self.seed): \(message)") }
    }
  }

  @Test(arguments: PFKeyDialect.allCases) func pfkey(_ dialect: PFKeyDialect) {
    print("PF_KEY fuzz seed \(Self.seed)")
    var generator = SeededGenerator(seed: Self.seed)
    let probe = PFKeyProbe()
    probe.greet(dialect)
    for _ in 0..<Self.rounds {
      if probe.store.sas.count > 64 { probe.store.sas = [:] }
      let base = Self.pfkey.randomElement(using: &generator) ?? []
      let message = Bool.random(using: &generator) ? mutate(base, &generator) : base
      let before = probe.store.fingerprint
      let replies = probe.send(message)
      // A daemon's ACQUIRE is the one message without an answer.
      if message.count > 1, message[1] != 6 { #expect(!replies.isEmpty, "seed \(Self.seed): \(message)") }
      if replies.count == 1, replies[0][2] != 0 {
        #expect(probe.store.fingerprint == before, "seed \(Self.seed): \(message)")
      }
    }
  }

  /// Every 16-bit word of every message, one at a time, is given every telling value.
  @Test func everyLengthLiedAbout() {
    let lies: [UInt16] = [0, 1, 2, 3, 4, 7, 8, 15, 16, 0x7fff, 0x8000, 0xfffc, 0xffff]
    let (xfrm, pfkey) = (XFRMProbe(), PFKeyProbe())
    for message in Self.xfrm {
      for offset in stride(from: 0, to: message.count - 1, by: 2) {
        for lie in lies {
          var changed = message
          (changed[offset], changed[offset + 1]) = (UInt8(lie & 255), UInt8(lie >> 8))
          let replies = xfrm.send(changed)
          // Whoever asked for an answer gets one.
          if offset > 6 { #expect(!replies.isEmpty) }
        }
      }
    }
    for message in Self.pfkey {
      for offset in stride(from: 0, to: message.count - 1, by: 2) {
        for lie in lies {
          var changed = message
          (changed[offset], changed[offset + 1]) = (UInt8(lie & 255), UInt8(lie >> 8))
          let replies = pfkey.send(changed)
          if offset > 1 { #expect(!replies.isEmpty) }
        }
      }
    }
  }

  @Test func everyTruncation() {
    let (xfrm, pfkey) = (XFRMProbe(), PFKeyProbe())
    for message in Self.xfrm {
      for length in 1..<message.count { #expect(!xfrm.send(Array(message[..<length])).isEmpty) }
    }
    for message in Self.pfkey {
      for length in 1..<message.count {
        let replies = pfkey.send(Array(message[..<length]))
        #expect(replies.count == 1 && replies[0][2] != 0)
      }
    }
    #expect(xfrm.store.sas.isEmpty && xfrm.store.entries.isEmpty)
    #expect(pfkey.store.sas.isEmpty && pfkey.store.entries.isEmpty)
  }
}
