import CCrypto
import COpenSSL
import SeededRandom
import Testing

@testable import Engines

/// Published vectors, on every engine that runs the algorithm, in both directions.
@Suite struct VectorTests {
  static var engines: [any CryptoEngine] {
    [OpenSSLEngine(), OpenSSLEngine(source: .evp)]
      + [IPsecMBEngine() as (any CryptoEngine)?, NativeEngine()].compactMap { $0 }
  }

  @Test func allAlgorithmsHaveVectors() {
    let encryptions = Set(Vector.all.map(\.encryption)).union([.aesCCM16, .aesCCM12, .aesCCM8])
    #expect(encryptions == Set(EncryptionAlgorithm.allCases))
    #expect(Set(Vector.all.compactMap(\.authentication)) == Set(AuthenticationAlgorithm.allCases))
  }

  @Test(arguments: Vector.all.indices) func vector(_ index: Int) throws {
    let vector = Vector.all[index]
    for engine in Self.engines where engine.supports(vector.transform) {
      let seal = try engine.makeSession(vector.transform, direction: .seal, workers: 1)
      let open = try engine.makeSession(vector.transform, direction: .open, workers: 1)
      defer {
        seal.destroy()
        open.destroy()
      }
      let burst = TestBurst([vector.packet])
      #expect(burst.run([seal]) == [true], "\(vector.source) \(engine.name)")
      #expect(burst.text(0) == Vector.bytes(vector.sealed), "\(vector.source) \(engine.name)")
      #expect(burst.icv(0) == Vector.bytes(vector.icv), "\(vector.source) \(engine.name)")
      #expect(burst.run([open]) == [true], "\(vector.source) \(engine.name)")
      #expect(burst.text(0) == Vector.bytes(vector.text), "\(vector.source) \(engine.name)")
    }
  }

  /// CCM of RFC 3610 written out, for no published vector has ESP's 11 byte nonce (RFC 4309).
  struct CCM {
    let key: [UInt8]
    let icvLength: Int

    func seal(nonce: [UInt8], aad: [UInt8], text: [UInt8]) -> (text: [UInt8], icv: [UInt8]) {
      let lengthSize = 15 - nonce.count
      func number(_ value: Int) -> [UInt8] { (0..<lengthSize).reversed().map { UInt8(value >> (8 * $0) & 255) } }
      func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: (16 - bytes.count % 16) % 16) }
      let flags = UInt8((aad.isEmpty ? 0 : 64) + (icvLength - 2) / 2 * 8 + lengthSize - 1)
      let header = aad.isEmpty ? [] : [UInt8(aad.count >> 8), UInt8(aad.count & 255)] + aad
      let blocks = [flags] + nonce + number(text.count) + padded(header) + padded(text)
      var mac = [UInt8](repeating: 0, count: 16)
      for start in stride(from: 0, to: blocks.count, by: 16) {
        mac = aes(zip(mac, blocks[start..<start + 16]).map { $0 ^ $1 })
      }
      func keystream(_ counter: Int) -> [UInt8] { aes([UInt8(lengthSize - 1)] + nonce + number(counter)) }
      let stream = (0..<(text.count + 15) / 16).flatMap { keystream($0 + 1) }
      return (zip(text, stream).map { $0 ^ $1 }, zip(mac, keystream(0)).map { $0 ^ $1 }.prefix(icvLength).map(\.self))
    }

    private func aes(_ block: [UInt8]) -> [UInt8] {
      var out = [UInt8](repeating: 0, count: 32)
      var length: Int32 = 0
      let context = EVP_CIPHER_CTX_new()
      defer { EVP_CIPHER_CTX_free(context) }
      let cipher = key.count == 16 ? EVP_aes_128_ecb() : key.count == 24 ? EVP_aes_192_ecb() : EVP_aes_256_ecb()
      EVP_EncryptInit_ex(context, cipher, nil, key, nil)
      EVP_EncryptUpdate(context, &out, &length, block, 16)
      return Array(out.prefix(16))
    }
  }

  /// RFC 3610 section 8, packet vector #1.
  @Test func theWrittenOutCCMIsRight() {
    let result = CCM(key: Array(0xc0...0xcf), icvLength: 8).seal(
      nonce: Vector.bytes("00000003020100a0a1a2a3a4a5"), aad: Array(0...7), text: Array(8...30))
    #expect(result.text == Vector.bytes("588c979a61c663d2f066d0c2c0f989806d5f6b61dac384"))
    #expect(result.icv == Vector.bytes("17e8d12cfdf926e0"))
  }

  @Test func ccmAsWrittenOut() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for encryption in [EncryptionAlgorithm.aesCCM16, .aesCCM12, .aesCCM8] {
      for keyLength in encryption.keyLengths {
        let transform = Transforms.make(encryption, keyLength)
        let reference = CCM(key: Array(transform.cipherKey), icvLength: encryption.icvLength)
        for engine in Self.engines where engine.supports(transform) {
          let seal = try engine.makeSession(transform, direction: .seal, workers: 1)
          let open = try engine.makeSession(transform, direction: .open, workers: 1)
          defer {
            seal.destroy()
            open.destroy()
          }
          for length in [0, 1, 16, 31, 64, 100, 1424] {
            let packet = TestPacket.random(
              transform, association: 0, length: length, hasESN: length % 2 == 0, using: &random)
            let expected = reference.seal(nonce: Array(packet.nonce.prefix(11)), aad: packet.aad, text: packet.text)
            let burst = TestBurst([packet])
            burst.run([seal])
            let isSealed = burst.text(0) == expected.text && burst.icv(0) == expected.icv
            let isOpened = burst.run([open]) == [true] && burst.text(0) == packet.text
            #expect(isSealed && isOpened, "\(Transforms.name(transform)) \(engine.name) \(length) seed \(seed)")
          }
        }
      }
    }
  }
}
