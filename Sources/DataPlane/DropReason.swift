/// Why a packet went no further: one counter each, per worker. The raw value indexes the counters; the name is what
/// `gwctl show drops` and the metrics call it.
public enum DropReason: UInt8, CaseIterable, Sendable {
  // Receive
  case frameTooShort
  case notForUs
  case unknownEtherType
  case multiSegment
  case ipTruncated
  case ipVersion
  case ipHeaderLength
  case ipTotalLength
  case ipChecksum
  case ipSourceRoute
  case ipv6ExtensionHeaders
  case martianSource
  case martianDestination

  // Inbound IPsec
  case noSA
  case saStopped
  case espTooShort
  case espAlignment
  case espSequenceZero
  case replayTooOld
  case replayDuplicate
  case integrity
  case espPadding
  case espDummy
  case espNextHeader
  case encapsulationMismatch
  case natKeepalive
  case innerMalformed
  case innerSelector
  case tunnelPolicy
  case ecnCongestion
  case nestingTooDeep
  case ahMalformed
  case ahUnsupportedHeader
  case decompression

  // Policy
  case policyInClear
  case policyDenyIn
  case policyDenyOut
  case policyNoSA

  // Outbound IPsec
  case sequenceExhausted
  case noHeadroom
  case noTailroom
  case sealFailed
  case bundleTooDeep
  case packetTooBig

  // Forwarding
  case ttlExpired
  case noRoute
  case unreachable
  case prohibited
  case blackhole
  case broadcast
  case fragmentNeeded
  case fragmentMalformed
  case fragmentLimit
  case reassemblyTimeout
  case neighborUnresolved
  case neighborQueueFull
  case transmitFull
  case portDown
  case handoffFull

  // Host path
  case hostQueueFull
  case hostWrite
  case hostMalformed

  // Resources
  case noBuffer

  /// Snake case, as Prometheus labels want it.
  public var name: String {
    var text = ""
    var lastWasUpper = false
    for character in "\(self)" {
      if character.isUppercase && !lastWasUpper && !text.isEmpty { text.append("_") }
      lastWasUpper = character.isUppercase
      text.append(character.lowercased())
    }
    return text
  }

  /// The stage that counts it.
  public var stage: String {
    switch self.rawValue {
    case ..<DropReason.noSA.rawValue: "receive"
    case ..<DropReason.policyInClear.rawValue: "inbound"
    case ..<DropReason.sequenceExhausted.rawValue: "policy"
    case ..<DropReason.ttlExpired.rawValue: "outbound"
    case ..<DropReason.hostQueueFull.rawValue: "forward"
    case ..<DropReason.noBuffer.rawValue: "host"
    default: "resources"
    }
  }
}
