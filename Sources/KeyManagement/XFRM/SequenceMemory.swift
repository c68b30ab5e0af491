import Engines
import IPsec

/// A daemon that moves an SA to another address (NAT mapping, MOBIKE) reads its replay state, deletes it and adds it
/// again; packets sent in between would make the new one repeat their sequence numbers, which are its nonces. So the
/// last number of a deleted counter-mode SA is remembered under a hash of its key, and the same key starts beyond it.
/// Control thread.
final class SequenceMemory {
  /// More packets than workers can have in flight between a counter's reading and its end.
  private static let margin: UInt64 = 1 << 16
  private static let limit = 1024

  private var sequences: [Int: UInt64] = [:]
  private var order: [Int] = []

  func remember(_ record: SARecord) {
    let transform = record.parameters.transform
    guard transform.encryption.isCounterMode, record.parameters.direction != .in, record.sequence > 0 else { return }
    let key = Self.hash(record.parameters)
    if sequences.updateValue(record.sequence, forKey: key) == nil { order.append(key) }
    if order.count > Self.limit { sequences[order.removeFirst()] = nil }
  }

  func advance(_ parameters: inout SAParameters) {
    guard parameters.transform.encryption.isCounterMode, !sequences.isEmpty,
      let last = sequences[Self.hash(parameters)]
    else { return }
    parameters.sequence = max(parameters.sequence, last + Self.margin)
  }

  /// Seeded by the process: says nothing about the key to whoever reads it.
  private static func hash(_ parameters: SAParameters) -> Int {
    var hasher = Hasher()
    hasher.combine(parameters.spi)
    hasher.combine(bytes: parameters.transform.encryptionKey.bytes)
    return hasher.finalize()
  }
}
