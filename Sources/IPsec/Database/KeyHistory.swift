import Engines

/// Counter-mode keys of outbound SAs that are gone, each with a number beyond all that it sealed. A daemon that moves an SA
/// (NAT mapping, MOBIKE) deletes it and adds it again with the same key, and an operator may load a key twice: under
/// whichever name it comes back, its numbers, which are its nonces, go on. Whoever adds the SA. Control thread only.
struct KeyHistory {
  /// The oldest is forgotten beyond this many keys, and each after a day.
  static let limit = 65_536
  static let seconds: UInt64 = 86_400

  private var numbers: [Int: (number: UInt64, at: UInt64)] = [:]
  /// In order of time; one that was seen again since is passed over.
  private var order: [(key: Int, at: UInt64)] = []
  private var first = 0

  var count: Int { numbers.count }

  /// - Parameter number: beyond what the workers that still have the SA in hand can use.
  mutating func remember(_ parameters: SAParameters, number: UInt64, now: UInt64) {
    guard let key = Self.digest(parameters) else { return }
    numbers[key] = (max(number, numbers[key]?.number ?? 0), now)
    order.append((key, now))
    while first < order.count, order.count - first > Self.limit || order[first].at &+ Self.seconds <= now {
      let oldest = order[first]
      if numbers[oldest.key]?.at == oldest.at { numbers[oldest.key] = nil }
      first += 1
    }
    if first > Self.limit {
      order.removeFirst(first)
      first = 0
    }
  }

  /// Where the numbers of an SA with this key have to go on; 0 if it is a new one.
  func number(_ parameters: SAParameters, now: UInt64) -> UInt64 {
    guard !numbers.isEmpty, let key = Self.digest(parameters), let last = numbers[key],
      now < last.at &+ Self.seconds
    else { return 0 }
    return last.number
  }

  /// Of the key with its salt; nil where numbers are not nonces. Keyed by the process: says nothing of the key to whoever
  /// reads it. Algorithms that share a key share its nonces.
  private static func digest(_ parameters: SAParameters) -> Int? {
    let transform = parameters.transform
    let key: SecretBytes
    if parameters.saProtocol == .esp, transform.encryption.isCounterMode {
      key = transform.encryptionKey
    } else if parameters.saProtocol == .ah, transform.authentication == .aesGMAC {
      key = transform.authenticationKey
    } else {
      return nil
    }
    var hasher = Hasher()
    hasher.combine(bytes: key.bytes)
    return hasher.finalize()
  }
}
