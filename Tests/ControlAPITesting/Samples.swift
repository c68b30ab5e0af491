import ControlAPI
import Engines
import IPsec
import Wire

/// Values with every field set to something other than its default.
public enum Samples {
  public static let key = SecretBytes((0..<32).map { UInt8($0 + 0xa0) })

  public static var selector: Selector {
    Selector(
      source: IPPrefix("192.168.60.0/24")!, destination: IPPrefix("172.20.1.0/24")!, ipProtocol: 6,
      sourcePorts: 1024...2048, destinationPorts: 443...443)
  }

  public static var sa: SAParameters {
    var sa = SAParameters(
      spi: 0xdead_beef, source: IPAddress("198.51.100.1")!, destination: IPAddress("2001:db8::2")!, saProtocol: .ah,
      mode: .transport,
      transform: CryptoTransform(
        encryption: .aesCBC, encryptionKey: key, authentication: .hmacSHA256, authenticationKey: key),
      replayWindow: 1024, extendedSequenceNumbers: true, owner: .xfrm(7))
    sa.compression = .deflate
    sa.encapsulation = UDPEncapsulation(sourcePort: 4501, destinationPort: 4502)
    sa.sequence = UInt64.max - 1
    sa.replayHighest = 1 << 40
    sa.soft = Lifetime(packets: 1, bytes: 2, addTime: 3, useTime: 4)
    sa.hard = Lifetime(packets: 5, bytes: UInt64.max, addTime: 7, useTime: 8)
    sa.requestID = 9
    sa.selector = selector
    sa.direction = .forward
    sa.sourceIdentity = Identity(kind: .fqdn, text: "gw1.example.org")
    sa.destinationIdentity = Identity(kind: .asn1DN, text: "/C=ES/CN=gw2 \"x\"")
    sa.mark = Mark(value: 1, mask: 0xff)
    sa.interfaceID = 11
    sa.df = .clear
    sa.ecn = false
    sa.dscp = 46
    sa.tfcPadding = 1400
    sa.keySequence = 12
    sa.bundledWith = SAIdentifier(spi: 0x2000, destination: IPAddress("198.51.100.2")!, saProtocol: .ipcomp)
    return sa
  }

  public static var record: SARecord {
    var record = SARecord(parameters: sa, state: .dying)
    record.usage = usage
    record.sequence = 1 << 33
    record.replayBitmap = UInt64.max
    record.mtu = 1438
    record.counters.inputPackets = 1
    record.counters.outputPackets = 2
    record.counters.inputBytes = 3
    record.counters.outputBytes = 4
    record.counters.decompressedBytes = 5
    record.counters.uncompressedBytes = 6
    record.counters.inputDrops = 7
    record.counters.outputDrops = 8
    record.counters.replayed = 9
    record.counters.integrityFailures = 10
    return record
  }

  public static var usage: Usage {
    var usage = Usage()
    usage.packets = 1
    usage.bytes = 2
    usage.added = 3
    usage.firstUsed = 4
    usage.lastUsed = 5
    return usage
  }

  public static var template: SATemplate {
    SATemplate(
      saProtocol: .ipcomp, mode: .transport, source: IPAddress("198.51.100.1")!,
      destination: IPAddress("198.51.100.2")!, requestID: 3, spi: 4, isOptional: true)
  }

  public static var policy: PolicyRecord {
    var policy = PolicyParameters(
      direction: .out, selector: selector, type: .dontacq, saProtocol: .ah, templates: [template], owner: .pfkey(3))
    policy.priority = 0
    policy.local = IPAddress("198.51.100.1")
    policy.peer = IPAddress("2001:db8::2")
    policy.sourceIdentity = Identity(kind: .prefix, text: "198.51.100.1/32")
    policy.destinationIdentity = Identity(kind: .ufqdn, text: "op@example.org")
    policy.mark = Mark(value: 5, mask: 6)
    policy.interfaceID = 7
    var record = PolicyRecord(index: 42, parameters: policy)
    record.usage = usage
    return record
  }

  /// Everything set.
  public static var tunnel: TunnelStatus {
    var tunnel = TunnelStatus(
      name: "from-192.168.60.0/24-to-172.20.1.0/24", origin: .rule, state: .up, since: 1_700_000_000)
    tunnel.peer = IPAddress("198.51.100.2")
    tunnel.selectors = [selector]
    tunnel.comings = 2
    tunnel.rekeys = 3
    tunnel.lastRekey = 1_700_000_600
    tunnel.received = .init(packets: 10, bytes: 1000)
    tunnel.sent = .init(packets: 20, bytes: 3_000_000)
    tunnel.rates.second = .init(
      inPacketsPerSecond: 1, inBitsPerSecond: 800, outPacketsPerSecond: 2, outBitsPerSecond: 9_400_000)
    tunnel.rates.tenSeconds = tunnel.rates.second
    tunnel.drops = ["replay": 4]
    tunnel.associations = [TunnelStatus.Association(record)]
    tunnel.history = [0, 1000, 9_400_800]
    return tunnel
  }
}
