/// The engine that `crypto:` names, and OpenSSL for the transforms that it lacks.
final class ForcedEngine: CryptoEngine {
  private let wanted: any CryptoEngine
  private let rest: any CryptoEngine

  init(_ wanted: any CryptoEngine, rest: any CryptoEngine) {
    self.wanted = wanted
    self.rest = rest
  }

  var name: String { wanted.name }
  var version: String { wanted.version }

  func engine(for transform: CryptoTransform) -> any CryptoEngine { wanted.supports(transform) ? wanted : rest }

  func supports(_ transform: CryptoTransform) -> Bool { engine(for: transform).supports(transform) }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    try engine(for: transform).makeSession(transform, direction: direction, workers: workers)
  }
}
