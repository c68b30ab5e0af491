import Engines
import Wire

/// The parameters of an SA as the database keeps them, a million times: what every SA has in place, and the rest behind a
/// pointer for those few that have any of it.
struct StoredParameters {
  let transform: CryptoTransform
  let source: IPAddress
  let saProtocol: SAProtocol
  let mode: SAMode
  private let direction: PolicyDirection?
  private let extendedSequenceNumbers: Bool
  let destination: IPAddress
  let spi: UInt32
  let owner: Owner
  let requestID: UInt32
  private let replayWindow: UInt32
  let keySequence: UInt32
  private let soft: Times
  private let hard: Times
  /// All of the parameters; nil: the others are as `SAParameters.init` makes them.
  private let whole: Box?

  private final class Box {
    let parameters: SAParameters
    init(_ parameters: SAParameters) { self.parameters = parameters }
  }

  /// Limits of time below 2^32 seconds and none of use.
  private struct Times {
    var addTime: UInt32
    var useTime: UInt32

    init?(_ lifetime: Lifetime) {
      guard lifetime.packets == 0, lifetime.bytes == 0, let addTime = UInt32(exactly: lifetime.addTime),
        let useTime = UInt32(exactly: lifetime.useTime)
      else { return nil }
      self.addTime = addTime
      self.useTime = useTime
    }

    init() {
      addTime = 0
      useTime = 0
    }

    var lifetime: Lifetime { Lifetime(addTime: UInt64(addTime), useTime: UInt64(useTime)) }
  }

  init(_ parameters: SAParameters) {
    transform = parameters.transform.sharingEmptyKeys
    (source, destination, spi) = (parameters.source, parameters.destination, parameters.spi)
    (saProtocol, mode, direction) = (parameters.saProtocol, parameters.mode, parameters.direction)
    extendedSequenceNumbers = parameters.extendedSequenceNumbers
    (owner, requestID) = (parameters.owner, parameters.requestID)
    (replayWindow, keySequence) = (parameters.replayWindow, parameters.keySequence)
    let times = (Times(parameters.soft), Times(parameters.hard))
    (soft, hard) = (times.0 ?? Times(), times.1 ?? Times())
    if times.0 != nil, times.1 != nil, parameters.isUsual {
      whole = nil
    } else {
      var parameters = parameters
      parameters.transform = transform
      whole = Box(parameters)
    }
  }

  var parameters: SAParameters {
    if let whole { return whole.parameters }
    var parameters = SAParameters(
      spi: spi, source: source, destination: destination, saProtocol: saProtocol, mode: mode, transform: transform,
      replayWindow: replayWindow, extendedSequenceNumbers: extendedSequenceNumbers, owner: owner)
    parameters.requestID = requestID
    parameters.direction = direction
    parameters.keySequence = keySequence
    parameters.soft = soft.lifetime
    parameters.hard = hard.lifetime
    return parameters
  }

  /// All of them, where there is something that most SAs have not: identities, mark, selector, interface, bundle and so on.
  var unusual: SAParameters? { whole?.parameters }

  var lifetimes: (soft: Lifetime, hard: Lifetime) {
    guard let whole else { return (soft.lifetime, hard.lifetime) }
    return (whole.parameters.soft, whole.parameters.hard)
  }

  var selector: Selector? { whole?.parameters.selector }

  /// The SA of the bundle that comes after this one.
  var bundledWith: SAIdentifier? { whole?.parameters.bundledWith }

  var identifier: SAIdentifier { SAIdentifier(spi: spi, destination: destination, saProtocol: saProtocol) }
}

extension SAParameters {
  /// Has nothing that `StoredParameters` keeps apart, lifetimes not looked at.
  fileprivate var isUsual: Bool {
    compression == nil && encapsulation == nil && sequence == 0 && replayHighest == 0 && selector == nil
      && sourceIdentity == nil && destinationIdentity == nil && mark == nil && interfaceID == 0
      && df == .copy && ecn && dscp == nil && !alignsAHTo64Bits && tfcPadding == 0 && bundledWith == nil
  }
}

extension CryptoTransform {
  /// The same, with one object for every key of no bytes.
  fileprivate var sharingEmptyKeys: CryptoTransform {
    var transform = self
    if encryptionKey.count == 0 { transform.encryptionKey = .empty }
    if authenticationKey.count == 0 { transform.authenticationKey = .empty }
    return transform
  }
}
