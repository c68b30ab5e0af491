import CCrypto

/// The test that an engine passes, for each kind of transform, before it may touch a packet: a known answer in both
/// directions, and a packet with a changed ICV refused.
struct SelfTest {
  let engine: any CryptoEngine

  /// Nil if `kind` passed, else what went wrong.
  func run(_ kind: TransformKind) -> String? {
    let sample = kind.sample
    do {
      let seal = try engine.makeSession(sample, direction: .seal, workers: 1)
      defer { seal.destroy() }
      let open = try engine.makeSession(sample, direction: .open, workers: 1)
      defer { open.destroy() }
      return try run(kind, sample, seal, open)
    } catch {
      return "\(error)"
    }
  }

  private func run(
    _ kind: TransformKind, _ sample: CryptoTransform, _ seal: CryptoSession, _ open: CryptoSession
  ) throws(CryptoEngineError) -> String? {
    let burst = SampleBurst(sample, textLength: KnownAnswers.textLength, count: 2, hasSequenceHigh: true)
    let plain = (0..<2).map(burst.text)
    guard burst.run(seal) else { return "did not seal" }
    if kind.encryption != .null {
      let sealed = burst.text(0) + (kind.encryption.isAEAD ? burst.icv(0) : [])
      let bits = sample.cipherKey.count * 8
      guard let answer = KnownAnswers.cipher(kind.encryption, bits: bits), hex(sealed.suffix(16)) == answer
      else { return "sealed text differs from the known answer" }
    }
    if let authentication = kind.authentication {
      guard hex(burst.icv(0)) == (try expectedICV(authentication, kind, sample, burst)) else {
        return "ICV differs from the known answer"
      }
    }
    guard burst.run(open), (0..<2).map(burst.text) == plain else { return "did not open what it sealed" }
    guard sample.icvLength > 0 else { return nil }
    burst.refill()
    guard burst.run(seal) else { return "did not seal again" }
    burst.jobs[1].icv[sample.icvLength - 1] ^= 0x80
    guard !burst.run(open), burst.jobs[0].succeeded == 1 else { return "opened a packet with a changed ICV" }
    return nil
  }

  /// With null encryption from the table; with a cipher from OpenSSL over what was sealed.
  private func expectedICV(
    _ authentication: AuthenticationAlgorithm, _ kind: TransformKind, _ sample: CryptoTransform, _ burst: SampleBurst
  ) throws(CryptoEngineError) -> String? {
    guard kind.encryption != .null else {
      return KnownAnswers.mac(authentication, bits: sample.macKey.count * 8)
    }
    let mac = CryptoTransform(
      encryption: .null, authentication: authentication, authenticationKey: sample.authenticationKey)
    let oracle = try OpenSSLEngine().makeSession(mac, direction: .seal, workers: 1)
    defer { oracle.destroy() }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 64) { icv in
      guard let start = icv.baseAddress else { return nil }
      var job = burst.jobs[0]
      job.session = oracle.base
      job.icv = start
      oracle.burst(&job, 1)
      return job.succeeded == 1 ? hex(icv.prefix(authentication.icvLength)) : nil
    }
  }

  private func hex(_ bytes: some Collection<UInt8>) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }
}

/// An engine that may only be asked for what it passed the self-test in.
struct TestedEngine: CryptoEngine {
  let engine: any CryptoEngine
  let refused: Set<TransformKind>

  var name: String { engine.name }
  var version: String { engine.version }

  func supports(_ transform: CryptoTransform) -> Bool {
    engine.supports(transform) && !refused.contains(TransformKind(transform))
  }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    let kind = TransformKind(transform)
    if refused.contains(kind) { throw .unsupported("\(kind), which failed its self-test,") }
    return try engine.makeSession(transform, direction: direction, workers: workers)
  }
}
