import Testing

@testable import Engines

/// The library's two GCM codes and when which is taken; `DifferentialTests` has both against OpenSSL.
@Suite struct IPsecMBGCMCodeTests {
  private static let keys = [16, 24, 32].flatMap { length in
    [CryptoDirection.seal, .open].map { IPsecMBGCMCode.Key(length: length, direction: $0) }
  }

  /// Beside AVX2's the AVX code is there, agrees, and what was measured is a table that can be.
  @Test func whereItIsFasterIsMeasured() throws {
    let automatic = try #require(IPsecMBWorker.make(.automatic))
    let avx = try #require(IPsecMBWorker.make(.avx))
    defer { for worker in [automatic, avx] { IPsecMBWorker.release(worker) } }
    guard automatic.pointee.isAVX2 else { return }
    for key in Self.keys {
      let own = try #require(IPsecMBGCMFunctions(automatic, key.length))
      let other = try #require(IPsecMBGCMFunctions(avx, key.length))
      let trial = try #require(IPsecMBGCMTrial(own, other, key), "\(key): the codes do not agree")
      let from = trial.longFrom()
      for remainder in 0..<8 { #expect([6, 8, 11, 16, 32, .max].contains(from[remainder]), "\(key) \(remainder)") }
      let code = try #require(IPsecMBGCMCode(automatic, avx, key, .always))
      #expect((0..<8).allSatisfy { code.longFrom[$0] == 0 })
      #expect(unsafeBitCast(code.run, to: Int.self) != unsafeBitCast(code.runLong, to: Int.self))
    }
  }

  /// Codes that do not agree, here because the schedules are of different lengths of key, are not mixed.
  @Test func codesThatDisagreeAreNotMixed() throws {
    let automatic = try #require(IPsecMBWorker.make(.automatic))
    defer { IPsecMBWorker.release(automatic) }
    let short = try #require(IPsecMBGCMFunctions(automatic, 16))
    let long = try #require(IPsecMBGCMFunctions(automatic, 32))
    #expect(IPsecMBGCMTrial(short, long, IPsecMBGCMCode.Key(length: 32, direction: .seal)) == nil)
  }

  @Test func theCodeIsTakenByLength() throws {
    let automatic = try #require(IPsecMBWorker.make(.automatic))
    defer { IPsecMBWorker.release(automatic) }
    let seal = try #require(IPsecMBGCMFunctions(automatic, 16)?.run(.seal))
    let open = try #require(IPsecMBGCMFunctions(automatic, 16)?.run(.open))
    var record = IPsecMBGCMRecord(icvLength: 16)
    (record.run, record.runLong) = (seal, open)
    let from: [UInt16] = [0, 1, 6, 11, 16, 32, 511, .max]
    record.longFrom = InlineArray { from[$0] }
    for length in UInt32(0)...65535 {
      let isLong = length / 128 >= UInt32(from[Int(length % 128 / 16)])
      let taken = try #require(record.run(length))
      let expected = isLong ? open : seal
      guard unsafeBitCast(taken, to: Int.self) == unsafeBitCast(expected, to: Int.self) else {
        Issue.record("\(length)")
        return
      }
    }
  }

  @Test func theRecordIsALine() { #expect(MemoryLayout<IPsecMBGCMRecord>.size <= IPsecMBGCMRecord.keyOffset) }
}
