import Synchronization

/// Every engine of this machine, tested at start, and `auto`, which picks among them. Control thread; lives as long as
/// the sessions made.
public final class CryptoEngines: Sendable {
  /// What an engine failed its self-test in.
  public struct Failure: Sendable, CustomStringConvertible {
    public let engine: String
    public let kind: TransformKind
    public let reason: String
    public var description: String { "\(engine): \(kind): \(reason); not used" }
  }

  /// The names that `crypto:` takes, whether or not this machine has the engine.
  public static let names = ["auto", "native", "ipsec-mb", "openssl"]

  /// Best first where nothing was measured.
  public let engines: [any CryptoEngine]
  public let failures: [Failure]
  private let auto: AutoEngine

  /// Makes the engines and runs their self-tests (some tens of milliseconds).
  public convenience init() {
    let fast: [any CryptoEngine] = [NativeEngine() as (any CryptoEngine)?, IPsecMBEngine()].compactMap { $0 }
    self.init(testing: fast + [OpenSSLEngine()])
  }

  init(testing candidates: [any CryptoEngine]) {
    var failures: [Failure] = []
    engines = candidates.map { engine in
      let test = SelfTest(engine: engine)
      var refused: Set<TransformKind> = []
      for kind in TransformKind.all where engine.supports(kind.sample) {
        guard let reason = test.run(kind) else { continue }
        refused.insert(kind)
        failures.append(Failure(engine: engine.name, kind: kind, reason: reason))
      }
      return TestedEngine(engine: engine, refused: refused)
    }
    self.failures = failures
    auto = AutoEngine(engines)
  }

  /// Nil if there is none of that name here.
  public func engine(named name: String) -> (any CryptoEngine)? {
    name == auto.name ? auto : engines.first { $0.name == name }
  }

  /// What `crypto: name` gives: that engine, with OpenSSL for the transforms that it lacks. Nil if there is none here.
  public func chosen(_ name: String) -> (any CryptoEngine)? {
    guard let wanted = engine(named: name), wanted.name != auto.name, let rest = engine(named: "openssl") else {
      return engine(named: name)
    }
    return ForcedEngine(wanted, rest: rest)
  }

  /// The engines on which an SA of `kind` runs where `crypto:` is `name`, by size class.
  public func names(_ kind: TransformKind, _ direction: CryptoDirection, chosen name: String) -> [String] {
    if name == auto.name { return auto.names(kind, direction) }
    let wanted = engine(named: name).flatMap { $0.supports(kind.sample) ? $0 : nil } ?? engine(named: "openssl")
    guard let wanted, wanted.supports(kind.sample) else { return [] }
    return SizeClass.allCases.map { _ in wanted.name }
  }

  /// What a forced engine leaves to OpenSSL.
  public func lacking(_ name: String) -> [TransformKind] {
    guard name != auto.name, let wanted = engine(named: name), let rest = engine(named: "openssl") else { return [] }
    return TransformKind.all.filter { !wanted.supports($0.sample) && rest.supports($0.sample) }
  }

  /// Measures `kinds` and has `auto` pick by the result; sessions that were made before stay as they are.
  /// Takes `budget` for each engine, direction and size class.
  public func calibrate(
    _ kinds: [TransformKind] = TransformKind.all, budget: Duration = .microseconds(200)
  ) {
    let calibration = Calibration(budget: budget)
    for kind in kinds {
      for direction in [CryptoDirection.seal, .open] {
        if let row = calibration.measure(kind, direction, engines) { auto.pick(row) }
      }
    }
  }

  /// What was measured and picked, in the order of `TransformKind.all`; empty before `calibrate`.
  public func report() -> [CalibrationRow] { auto.rows }
}

/// Picks by what was measured: one engine's own session, or one that splits a burst by size.
final class AutoEngine: CryptoEngine {
  private struct Key: Hashable {
    let kind: TransformKind
    let direction: CryptoDirection
  }

  let name = "auto"
  private let engines: [any CryptoEngine]
  private let measured = Mutex<[Key: CalibrationRow]>([:])

  init(_ engines: [any CryptoEngine]) { self.engines = engines }

  func pick(_ row: CalibrationRow) {
    measured.withLock { $0[Key(kind: row.kind, direction: row.direction)] = row }
  }

  var rows: [CalibrationRow] {
    let measured = measured.withLock { $0 }
    return TransformKind.all.flatMap { kind in
      [CryptoDirection.seal, .open].compactMap { measured[Key(kind: kind, direction: $0)] }
    }
  }

  /// By size class.
  func names(_ kind: TransformKind, _ direction: CryptoDirection) -> [String] {
    if let picked = measured.withLock({ $0[Key(kind: kind, direction: direction)]?.picked }), !picked.isEmpty {
      return picked
    }
    guard let first = engines.first(where: { $0.supports(kind.sample) }) else { return [] }
    return SizeClass.allCases.map { _ in first.name }
  }

  func supports(_ transform: CryptoTransform) -> Bool { engines.contains { $0.supports(transform) } }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    try transform.check()
    let key = Key(kind: TransformKind(transform), direction: direction)
    guard let first = engines.first(where: { $0.supports(transform) }) else { throw .unsupported("\(key.kind)") }
    guard let picked = measured.withLock({ $0[key]?.picked }), let only = picked.first else {
      return try first.makeSession(transform, direction: direction, workers: workers)
    }
    var names: [String] = []
    for name in picked where !names.contains(name) { names.append(name) }
    var parts: [CryptoSession] = []
    do {
      for name in names {
        let engine = engines.first { $0.name == name } ?? first
        parts.append(try engine.makeSession(transform, direction: direction, workers: workers))
      }
    } catch {
      for part in parts { part.destroy() }
      throw error
    }
    if parts.count == 1, picked.allSatisfy({ $0 == only }) { return parts[0] }
    return SplitSession.make(parts, pick: picked.map { names.firstIndex(of: $0) ?? 0 }, workers: workers)
  }
}
