import SeededRandom
import Testing

@testable import Engines

/// Every other engine against OpenSSL, on random packets of several SAs in one burst.
@Suite struct DifferentialTests {
  /// New ones for each test: tests run on several threads, and a worker's manager belongs to one.
  static var engines: [any CryptoEngine] {
    [IPsecMBEngine(.never) as (any CryptoEngine)?, IPsecMBEngine(.always), NativeEngine()].compactMap { $0 }
  }

  @Test(arguments: Transforms.all.indices) func enginesAgree(_ index: Int) throws {
    let transform = Transforms.all[index]
    for engine in Self.engines where engine.supports(transform) {
      let seed = UInt64.random(in: 0...UInt64.max)
      for round in 0..<4 {
        let agreed = try compare(transform, engine, seed: seed &+ UInt64(round), isLarge: round == 3)
        #expect(agreed == nil, "\(Transforms.name(transform)) \(engine.name) seed \(seed) round \(round)")
      }
    }
  }

  /// What differs, nil if nothing.
  private func compare(
    _ transform: CryptoTransform, _ engine: any CryptoEngine, seed: UInt64, isLarge: Bool
  ) throws -> String? {
    var random = SeededGenerator(seed: seed)
    let associations = (0..<Int.random(in: 1...6, using: &random)).map { _ in
      Transforms.make(
        transform.encryption, transform.encryptionKey.count, transform.authentication,
        transform.authenticationKey.count, seed: Int.random(in: 0...10_000, using: &random))
    }
    let packets = (0..<Int.random(in: 1...(isLarge ? 12 : 150), using: &random)).map { _ in
      TestPacket.random(
        transform, association: Int.random(in: associations.indices, using: &random),
        length: Int.random(in: 0...(isLarge ? 9000 : 300), using: &random), hasESN: Bool.random(using: &random),
        using: &random)
    }
    let worker = Int.random(in: 0...1, using: &random)
    func sessions(_ engine: any CryptoEngine, _ direction: CryptoDirection) throws -> [CryptoSession] {
      try associations.map { try engine.makeSession($0, direction: direction, workers: 2) }
    }
    let oracle = OpenSSLEngine()
    let all = try [oracle, engine].flatMap { engine in
      try [CryptoDirection.seal, .open].map { try sessions(engine, $0) }
    }
    defer { for session in all.joined() { session.destroy() } }

    let expected = TestBurst(packets)
    let sealed = TestBurst(packets)
    guard expected.run(all[0], worker: worker).allSatisfy(\.self) else { return "openssl did not seal" }
    guard sealed.run(all[2], worker: worker).allSatisfy(\.self) else { return "not sealed" }
    guard expected.memory == sealed.memory else { return "sealed differently" }

    // Each opens what the other made.
    let plain = TestBurst(packets)
    guard expected.run(all[3], worker: worker).allSatisfy(\.self) else { return "not opened" }
    guard packets.indices.allSatisfy({ expected.text($0) == plain.text($0) }) else { return "opened differently" }
    guard sealed.run(all[1], worker: worker).allSatisfy(\.self) else { return "openssl did not open" }
    guard packets.indices.allSatisfy({ sealed.text($0) == plain.text($0) }) else { return "openssl opened differently" }
    return nil
  }

  /// A flipped bit in some packets of a burst fails those and no other.
  @Test(arguments: Transforms.all.indices) func tamperedPacketsFail(_ index: Int) throws {
    let transform = Transforms.all[index]
    guard transform.icvLength > 0 else { return }
    let seed = UInt64.random(in: 0...UInt64.max)
    for engine in Self.engines + [OpenSSLEngine()] where engine.supports(transform) {
      var random = SeededGenerator(seed: seed)
      let seal = try engine.makeSession(transform, direction: .seal, workers: 1)
      let open = try engine.makeSession(transform, direction: .open, workers: 1)
      defer {
        seal.destroy()
        open.destroy()
      }
      for _ in 0..<10 {
        let packets = (0..<20).map { _ in
          TestPacket.random(
            transform, association: 0, length: Int.random(in: 0...200, using: &random),
            hasESN: Bool.random(using: &random), using: &random)
        }
        let burst = TestBurst(packets)
        burst.run([seal])
        let tampered = packets.indices.map { _ in Int.random(in: 0..<3, using: &random) == 0 }
        for index in packets.indices where tampered[index] { tamper(burst, index, transform, &random) }
        let results = burst.run([open])
        let asExpected = zip(results, tampered).allSatisfy { $0 != $1 }
        #expect(asExpected, "\(Transforms.name(transform)) \(engine.name) seed \(seed)")
      }
    }
  }

  private func tamper(
    _ burst: TestBurst, _ index: Int, _ transform: CryptoTransform, _ random: inout SeededGenerator
  ) {
    let packet = burst.packets[index]
    let job = burst.jobs + index
    let bit = Int.random(in: 0..<8, using: &random)
    let isAEAD = transform.encryption.isAEAD
    let before = packet.header.count + packet.iv.count
    switch Int.random(in: 0..<4, using: &random) {
    case 0 where isAEAD:
      let offset = Int.random(in: 0..<packet.aad.count, using: &random)
      withUnsafeMutableBytes(of: &job.pointee.aad) { $0[offset] ^= 1 << bit }
    case 0 where packet.sequenceHigh != nil:
      job.pointee.sequence_high ^= 1 << UInt32.random(in: 0..<32, using: &random)
    case 0:
      burst.flip(index, offset: Int.random(in: 0..<before, using: &random), bit: bit)
    case 1 where !packet.text.isEmpty:
      burst.flip(index, offset: before + Int.random(in: 0..<packet.text.count, using: &random), bit: bit)
    default:
      let offset = before + packet.text.count + Int.random(in: 0..<packet.icv.count, using: &random)
      burst.flip(index, offset: offset, bit: bit)
    }
  }
}
