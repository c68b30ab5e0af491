import CCrypto
import Testing

@testable import Engines

@Suite struct OpenSSLEngineTests {
  @Test func supportsEverything() throws {
    #expect(Transforms.all.count > 100)
    for transform in Transforms.all {
      #expect(OpenSSLEngine().supports(transform))
      for direction in [CryptoDirection.seal, .open] {
        let session = try OpenSSLEngine().makeSession(transform, direction: direction, workers: 3)
        #expect(session.footprint >= 3 * session.stride)
        session.destroy()
      }
    }
  }

  @Test func theProvidersFunctionsAreUsedAndAgreeWithEVP() throws {
    for transform in Transforms.all {
      guard let name = OpenSSLCiphers.name(transform.encryption, keyLength: transform.cipherKey.count) else { continue }
      _ = try OpenSSLCiphers.find(name, .checked, sample: transform.sample(keyed: transform.cipherKey.count))
      #expect(OpenSSLCiphers.isDirect(name), "\(name)")
    }
    for transform in Transforms.all {
      for length in [0, 16, 40, 96, 1424] {
        var results: [[UInt8]] = []
        for source in [OpenSSLCiphers.Source.direct, .evp] {
          let engine = OpenSSLEngine(source: source)
          let seal = try engine.makeSession(transform, direction: .seal, workers: 1)
          let open = try engine.makeSession(transform, direction: .open, workers: 1)
          let burst = SampleBurst(transform, textLength: length, count: 3, hasSequenceHigh: true)
          let plain = (0..<3).map(burst.text)
          let sealed = burst.run(seal)
          results.append((0..<3).flatMap { burst.text($0) + burst.icv($0) })
          let opened = burst.run(open) && (0..<3).map(burst.text) == plain
          #expect(sealed && opened, "\(Transforms.name(transform)) \(length)")
          seal.destroy()
          open.destroy()
        }
        let agree = results[0] == results[1]
        #expect(agree, "\(Transforms.name(transform)) \(length)")
      }
    }
  }

  @Test func theTagIsReadFromTheContextAndPutThere() throws {
    for kind in TransformKind.all where [.aesGCM16, .chacha20Poly1305].contains(kind.encryption) {
      let sample = kind.sample
      let name = try #require(OpenSSLCiphers.name(kind.encryption, keyLength: sample.cipherKey.count))
      #expect(try OpenSSLCiphers.find(name, .checked, sample: sample).pointee.tag_offset > 0)
      #expect(try OpenSSLCiphers.find(name, .checked, sample: sample).pointee.takes_tag == 1)
      #expect(try OpenSSLCiphers.find(name, .evp, sample: sample).pointee.tag_offset == -1)
    }
  }

  @Test func refusesWhatMakesNoSense() {
    let pairs = [
      Transforms.make(.aesGCM16, 20, .hmacSHA1, 20), Transforms.make(.aesCBC, 16, .aesGMAC, 20),
    ]
    for transform in pairs {
      #expect(!OpenSSLEngine().supports(transform))
      #expect(throws: CryptoEngineError.self) {
        _ = try OpenSSLEngine().makeSession(transform, direction: .seal, workers: 1)
      }
    }
    #expect(throws: CryptoEngineError.keyLength(expected: [16, 24, 32], got: 17)) {
      _ = try OpenSSLEngine().makeSession(Transforms.make(.aesCBC, 17), direction: .seal, workers: 1)
    }
    #expect(throws: CryptoEngineError.keyLength(expected: [0], got: 4)) {
      _ = try OpenSSLEngine().makeSession(Transforms.make(.aesCBC, 16, nil, 4), direction: .seal, workers: 1)
    }
  }
}
