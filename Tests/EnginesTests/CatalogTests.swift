import CCrypto
import SeededRandom
import Testing

@testable import Engines

@Suite struct CatalogTests {
  @Test func everyEnginePassesItsSelfTest() {
    let engines = CryptoEngines()
    for failure in engines.failures { Issue.record("\(failure)") }
    #expect(engines.engine(named: "openssl") != nil)
    #expect(engines.engine(named: "auto") != nil)
    #expect(engines.engine(named: "none") == nil)
  }

  @Test func kindsAreNamedApart() {
    #expect(Set(TransformKind.all.map(\.description)).count == TransformKind.all.count)
    #expect("\(TransformKind(Transforms.make(.aesGCM12, 36)))" == "aes-gcm-12-256")
    #expect("\(TransformKind(Transforms.make(.null, 0, .aesGMAC, 28)))" == "null aes-gmac-192")
    #expect(TransformKind.all.count == Transforms.all.count)
  }

  /// An engine whose sessions leave the last byte of the ICV wrong, in one kind.
  private struct Broken: CryptoEngine {
    let name = "broken"
    func supports(_ transform: CryptoTransform) -> Bool { OpenSSLEngine().supports(transform) }
    func makeSession(
      _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
    ) throws(CryptoEngineError) -> CryptoSession {
      var transform = transform
      if transform.encryption == .aesGCM16 { transform.encryption = .aesGCM12 }
      return try OpenSSLEngine().makeSession(transform, direction: direction, workers: workers)
    }
  }

  @Test func aBrokenAlgorithmIsRefused() throws {
    let engines = CryptoEngines(testing: [Broken(), OpenSSLEngine()])
    #expect(engines.failures.count == 3)
    #expect(engines.failures.allSatisfy { $0.kind.encryption == .aesGCM16 && $0.engine == "broken" })
    let broken = try #require(engines.engine(named: "broken"))
    let gcm = Transforms.make(.aesGCM16, 20)
    #expect(!broken.supports(gcm))
    #expect(broken.supports(Transforms.make(.aesGCM8, 20)))
    #expect(throws: CryptoEngineError.self) { _ = try broken.makeSession(gcm, direction: .seal, workers: 1) }
    // Auto goes on to the next engine.
    try #require(engines.engine(named: "auto")).makeSession(gcm, direction: .seal, workers: 1).destroy()
  }

  /// What the chosen engine lacks runs on OpenSSL, and is said to.
  @Test func aForcedEngineLeavesTheRestToOpenSSL() throws {
    let engines = CryptoEngines(testing: [Broken(), OpenSSLEngine()])
    let chosen = try #require(engines.chosen("broken"))
    #expect(chosen.name == "broken" && engines.chosen("none") == nil && engines.chosen("auto")?.name == "auto")
    func every(_ name: String) -> [String] { SizeClass.allCases.map { _ in name } }
    let (gcm16, gcm8) = (Transforms.make(.aesGCM16, 20), Transforms.make(.aesGCM8, 20))
    #expect(chosen.supports(gcm16))
    try chosen.makeSession(gcm16, direction: .seal, workers: 1).destroy()
    #expect(engines.names(TransformKind(gcm16), .seal, chosen: "broken") == every("openssl"))
    #expect(engines.names(TransformKind(gcm8), .seal, chosen: "broken") == every("broken"))
    #expect(engines.names(TransformKind(gcm8), .open, chosen: "auto") == every("broken"))
    #expect(engines.lacking("broken").map(\.encryption) == [.aesGCM16, .aesGCM16, .aesGCM16])
    #expect(engines.lacking("openssl").isEmpty && engines.lacking("auto").isEmpty)
  }

  @Test func calibrationPicksAndReports() throws {
    let engines = CryptoEngines()
    let kinds = [
      TransformKind(Transforms.make(.aesGCM16, 20)), TransformKind(Transforms.make(.aesCBC, 16, .hmacSHA256, 32)),
      TransformKind(Transforms.make(.camelliaCBC, 16, .hmacSHA1, 20)),
    ]
    #expect(engines.report().isEmpty)
    engines.calibrate(kinds, budget: .microseconds(100))
    let rows = engines.report()
    #expect(rows.count == 6)
    #expect(Set(rows.map(\.kind)) == Set(kinds))
    for row in rows {
      #expect(row.picked.count == SizeClass.allCases.count)
      for (_, bySize) in row.nanoseconds {
        #expect(bySize.count == row.picked.count && bySize.allSatisfy { $0 > 1 && $0 < 1e6 })
      }
      if row.kind.encryption == .camelliaCBC { #expect(Set(row.picked) == ["openssl"]) }
    }
  }

  /// What the data path computes is what the reports say.
  @Test func sizesAreInTheirClasses() {
    for length in UInt32(0)...2000 {
      let first = SizeClass.allCases.first { $0.upToBytes.map { length <= $0 } ?? true }
      #expect(SizeClass.index(of: length) == first?.rawValue, "\(length)")
    }
    for size in SizeClass.allCases { #expect(SizeClass.index(of: UInt32(size.sampleLength)) == size.rawValue) }
  }

  /// Any pick, several SAs, all sizes in one burst: as one engine would do it, and jobs given back as they came.
  @Test func splitSessionsDoWhatOneEngineDoes() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for transform in [Transforms.make(.aesGCM16, 20), Transforms.make(.aesCBC, 32, .hmacSHA256, 32)] {
      let fast = try #require(IPsecMBEngine())
      for pick in [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0]] {
        func split(_ direction: CryptoDirection) throws -> CryptoSession {
          let parts = try [OpenSSLEngine(), fast as any CryptoEngine].map {
            try $0.makeSession(transform, direction: direction, workers: 3)
          }
          return SplitSession.make(parts, pick: pick, workers: 3)
        }
        let seal = try split(.seal)
        let open = try split(.open)
        let one = try OpenSSLEngine().makeSession(transform, direction: .seal, workers: 3)
        defer { for session in [seal, open, one] { session.destroy() } }
        let packets = (0..<70).map { _ in
          TestPacket.random(
            transform, association: 0, length: Int.random(in: 0...1500, using: &random), hasESN: true, using: &random)
        }
        let expected = TestBurst(packets)
        expected.run([one], worker: 2)
        let burst = TestBurst(packets)
        let sealed = burst.run([seal], worker: 2).allSatisfy(\.self) && burst.memory == expected.memory
        let opened = burst.run([open], worker: 2).allSatisfy(\.self)
        let isSame = packets.indices.allSatisfy { burst.text($0) == packets[$0].text }
        #expect(sealed && opened && isSame, "\(Transforms.name(transform)) \(pick) seed \(seed)")
        #expect(packets.indices.allSatisfy { burst.jobs[$0].session == open.base + 2 * open.stride })
        burst.flip(33, offset: 20, bit: 1)
        #expect(burst.run([open], worker: 2)[33] == false)
      }
    }
  }
}
