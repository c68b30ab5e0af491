import CCrypto
import SeededRandom
import Testing

@testable import Engines

/// What `ccrypto.h` promises besides the right bytes.
@Suite struct ContractTests {
  static var engines: [any CryptoEngine] {
    [OpenSSLEngine() as (any CryptoEngine)?, IPsecMBEngine(), NativeEngine()].compactMap { $0 }
  }

  @Test func anEmptyBurstIsNothing() throws {
    for engine in Self.engines {
      for transform in Transforms.all where engine.supports(transform) {
        for direction in [CryptoDirection.seal, .open] {
          let session = try engine.makeSession(transform, direction: direction, workers: 1)
          session.burst(TestBurst([]).jobs, 0)
          session.destroy()
        }
      }
    }
  }

  /// A text that is no multiple of the block fails and its neighbours do not.
  @Test func brokenBlocksFail() throws {
    var random = SeededGenerator(seed: 1)
    for engine in Self.engines {
      for transform in Transforms.all where engine.supports(transform) && transform.encryption.blockLength > 1 {
        for direction in [CryptoDirection.seal, .open] {
          let seal = try engine.makeSession(transform, direction: .seal, workers: 1)
          let session = try engine.makeSession(transform, direction: direction, workers: 1)
          defer { for each in [seal, session] { each.destroy() } }
          let packets = (0..<5).map { _ in
            TestPacket.random(transform, association: 0, length: 96, hasESN: false, using: &random)
          }
          let burst = TestBurst(packets)
          if direction == .open { burst.run([seal]) }
          burst.jobs[2].text_length -= 3
          #expect(burst.run([session]) == [true, true, false, true, true], "\(Transforms.name(transform))")
        }
      }
    }
  }

  /// AH: the ICV stands in the image, the received one elsewhere, and behind the image are bytes of others.
  @Test func imagesOfAH() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for transform in Transforms.all where transform.encryption == .null && transform.icvLength > 0 {
      for length in [40, 64, 100, 1500] {
        let image = random.bytes(24) + [UInt8](repeating: 0, count: transform.icvLength) + random.bytes(length)
        let nonce = random.bytes(12)
        let results = try Self.engines.filter { $0.supports(transform) }.map { engine in
          let icv = try seal(image, transform, engine, nonce)
          for isTampered in [false, true] {
            let isOpened = try open(image, icv, transform, engine, nonce, isTampered: isTampered)
            #expect(isOpened == !isTampered, "\(Transforms.name(transform)) \(engine.name) seed \(seed)")
          }
          return icv
        }
        let agree = results.allSatisfy { $0 == results[0] }
        #expect(agree, "\(Transforms.name(transform)) seed \(seed)")
      }
    }
  }

  private func seal(
    _ image: [UInt8], _ transform: CryptoTransform, _ engine: any CryptoEngine, _ nonce: [UInt8]
  ) throws -> [UInt8] {
    let session = try engine.makeSession(transform, direction: .seal, workers: 1)
    defer { session.destroy() }
    let burst = TestBurst([packet(image, nonce)])
    let before = burst.memory[0]
    burst.jobs[0].icv = burst.jobs[0].authenticated + 24
    #expect(burst.run([session]) == [true])
    let after = burst.memory[0]
    // The first canary is 32 bytes.
    let place = 56..<56 + transform.icvLength
    #expect(before[..<place.lowerBound] == after[..<place.lowerBound])
    #expect(before[place.upperBound...] == after[place.upperBound...])
    return Array(after[place])
  }

  private func open(
    _ image: [UInt8], _ icv: [UInt8], _ transform: CryptoTransform, _ engine: any CryptoEngine, _ nonce: [UInt8],
    isTampered: Bool
  ) throws -> Bool {
    let session = try engine.makeSession(transform, direction: .open, workers: 1)
    defer { session.destroy() }
    let burst = TestBurst([packet(image, nonce)])
    if isTampered { burst.flip(0, offset: image.count - 1, bit: 7) }
    let before = burst.memory[0]
    var received = icv
    let result = received.withUnsafeMutableBufferPointer { received in
      burst.jobs[0].icv = received.baseAddress!
      return burst.run([session]) == [true]
    }
    #expect(burst.memory[0] == before)
    return result
  }

  private func packet(_ image: [UInt8], _ nonce: [UInt8]) -> TestPacket {
    TestPacket(header: image, aad: [], iv: [], nonce: nonce, text: [], icv: [], sequenceHigh: 0x0102_0304)
  }
}
