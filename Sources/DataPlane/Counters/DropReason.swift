/// Why a packet went no further: one counter each, per worker. The raw value indexes the counters; the name is what
/// `gwctl show drops` and the metrics call it.
public enum DropReason: UInt8, CaseIterable, Sendable {
  // Receive
  case frameTooShort
  case notForUs
  case unknownEtherType
  case groupFrame
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
  case sourceCheck

  // Inbound IPsec
  case noSA
  case saStopped
  case saUnkeyed
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
  case answerUnprotected
  case neighborDiscovery
  case saQueueFull
  case saWaitTimeout

  // Outbound IPsec
  case sequenceExhausted
  case sequenceUnreserved
  case noTailroom
  case sealFailed
  case bundleTooDeep

  // Forwarding
  case ttlExpired
  case noRoute
  case unreachable
  case prohibited
  case blackhole
  case broadcast
  case fragmentNeeded
  case fragmentMalformed
  case fragmentTiny
  case fragmentOverlap
  case fragmentLimit
  case fragmentWithoutPorts
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
  case hostEtherType

  // Resources
  case noRecord
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
    case ..<DropReason.noRecord.rawValue: "host"
    default: "resources"
    }
  }
}

extension DropReason {
  /// One sentence for the operator.
  public var explanation: String {
    switch self {
    case .frameTooShort: "shorter than an Ethernet header"
    case .notForUs: "a frame for another station"
    case .unknownEtherType: "neither IP nor ARP"
    case .groupFrame: "for one station, in a frame to a group or to all (RFC 1122 3.3.6)"
    case .multiSegment: "in several buffers, and none free that holds it whole"
    case .ipTruncated: "shorter than an IP header"
    case .ipVersion: "the IP version does not fit the Ethernet type"
    case .ipHeaderLength: "the IP header's length is impossible"
    case .ipTotalLength: "the IP length is not what arrived"
    case .ipChecksum: "wrong IPv4 header checksum"
    case .ipSourceRoute: "a source route option, or an IPv6 routing header of type 0 (RFC 5095)"
    case .ipv6ExtensionHeaders: "IPv6 extension headers malformed, or too many"
    case .martianSource: "a source address that no packet may have here"
    case .martianDestination: "a destination that must not be forwarded to"
    case .sourceCheck: "no route back to its source, or not by its port (source-check of gateway.yaml)"
    case .noSA: "IPsec to the gateway with an SPI that it does not know"
    case .saUnkeyed: "the SA's key schedule had to be made first, and the packet could not wait for it"
    case .saStopped: "the SA is expired, deleted or out of sequence numbers"
    case .espTooShort: "shorter than its protocol's headers and ICV"
    case .espAlignment: "ciphertext is no whole number of blocks"
    case .espSequenceZero: "sequence number 0, which no sender uses"
    case .replayTooOld: "behind the replay window"
    case .replayDuplicate: "received before"
    case .integrity: "the ICV is wrong: damaged, forged, or another key"
    case .espPadding: "wrong padding after decryption"
    case .espDummy: "a dummy packet (next header 59)"
    case .espNextHeader: "the SA may not carry this protocol"
    case .encapsulationMismatch: "in UDP on an SA without it, or the other way round"
    case .natKeepalive: "a NAT keepalive, which has no other use"
    case .innerMalformed: "the packet inside the tunnel is malformed"
    case .innerSelector: "the packet inside is not what the SA may carry"
    case .tunnelPolicy: "it came out of a tunnel that its policy does not name"
    case .ecnCongestion: "congestion marked outside, not ECN-capable inside (RFC 6040)"
    case .nestingTooDeep: "too many SAs one inside the other"
    case .ahMalformed: "AH header malformed"
    case .ahUnsupportedHeader: "AH over headers that cannot be authenticated"
    case .decompression: "IPComp data that does not decompress within the limits"
    case .policyInClear: "in clear, though its policy wants it protected"
    case .policyDenyIn: "an inbound policy denies it"
    case .policyDenyOut: "an outbound policy denies it"
    case .policyNoSA: "its policy wants an SA and there is none yet"
    case .answerUnprotected: "an ICMP error that quotes what was protected, or is to be, and would leave in clear"
    case .neighborDiscovery: "neighbour discovery that no neighbour sent to the gateway (RFC 4861 7.1)"
    case .saQueueFull: "more packets wait for an SA of its policy than may"
    case .saWaitTimeout: "it waited for an SA of its policy, and none came in time"
    case .sequenceExhausted: "the SA has no sequence numbers left"
    case .sequenceUnreserved: "the SA's next sequence numbers could not be reserved in state-dir yet"
    case .noTailroom: "no room around the packet"
    case .sealFailed: "the crypto engine failed"
    case .bundleTooDeep: "too many SAs in a bundle"
    case .ttlExpired: "its time to live ran out here"
    case .noRoute: "no route to its destination"
    case .unreachable: "its route says unreachable"
    case .prohibited: "its route says prohibited"
    case .blackhole: "its route says blackhole"
    case .broadcast: "a directed broadcast (RFC 2644)"
    case .fragmentNeeded: "too large for its way and must not be fragmented"
    case .fragmentMalformed: "a fragment whose place or length is impossible"
    case .fragmentTiny: "a fragment too small to hold the headers that its policy needs (RFC 1858, 7112)"
    case .fragmentOverlap: "fragments that overlap; their datagram is dropped whole (RFC 5722)"
    case .fragmentWithoutPorts: "a fragment, or too short: it hides ports that a policy may ask for"
    case .fragmentLimit: "more fragments than the limits allow"
    case .reassemblyTimeout: "fragments whose rest did not come in time"
    case .neighborUnresolved: "the next hop's Ethernet address was not found in time"
    case .neighborQueueFull: "too many packets wait for the next hop"
    case .transmitFull: "the port's transmit queue was full"
    case .portDown: "the port cannot send"
    case .handoffFull: "the ring to the worker that sends was full"
    case .hostQueueFull: "the ring to or from the host was full"
    case .hostWrite: "the kernel did not take it"
    case .hostMalformed: "for the host, which has no TAP here or sent it malformed"
    case .hostEtherType: "a frame of the host that is neither IP nor ARP, and so has no policy"
    case .noRecord: "more packets at once than a worker has records for"
    case .noBuffer: "no packet buffer free"
    }
  }
}
