import Engines
import Foundation
@testable import IPsec
import Testing
import Wire

@testable import ConfigurationFiles

/// The mission's own example: 192.168.60.0/24 behind 202.245.63.218 and 172.20.1.0/24 behind 200.69.110.71, as the
/// first gateway saw it in December 2010. `mission-*.ok` are that page's listings carried over to today's format: flags
/// with names, no `remote_auth`, counters and the replay counter at the end, flows in the order of today's table.
enum Mission {
  static func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
  static func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

  static let (near, far) = ("202.245.63.218", "200.69.110.71")
  static let (nearNetwork, farNetwork) = ("192.168.60.0/24", "172.20.1.0/24")

  /// In the order of the page.
  static func policies() throws -> [PolicyRecord] {
    var records: [PolicyRecord] = []
    for (inner, outer) in [(near, far), (near, farNetwork), (nearNetwork, far), (nearNetwork, farNetwork)] {
      let selector = Selector(source: try prefix(inner), destination: try prefix(outer))
      for direction in [PolicyDirection.in, .out] {
        var policy = PolicyParameters(
          direction: direction, selector: direction == .out ? selector : selector.mirrored,
          type: direction == .out ? .require : .use)
        policy.peer = try address(far)
        records.append(PolicyRecord(index: UInt32(records.count + 1), parameters: policy))
      }
    }
    return records
  }

  struct Entry {
    var spi: UInt32
    var incoming: Bool
    var authenticationKey: String
    var encryptionKey: String
    var added: UInt64
    /// From the near side to the far side, seen as the packets of the SA go.
    var source: String
    var destination: String
    var bytes: UInt64 = 0
  }

  static let entries = [
    Entry(
      spi: 0x2d21_48ab, incoming: true,
      authenticationKey: "61dac444bbc97245532dbd8e4fbdcc57c6e2a492bc68ab669b73495fc5d98ac2",
      encryptionKey: "9388bd3fc0aa2093f041f88ff886d2f9", added: 1_293_629_063, source: far, destination: nearNetwork),
    Entry(
      spi: 0x3f6b_5b47, incoming: true,
      authenticationKey: "4c96f3b4d731cdffd372c15fc09aad077e5832f657b1872a83078da58f8f9fc8",
      encryptionKey: "513cc494645b97232c8e58b859a2d69d", added: 1_293_629_094, source: far, destination: near,
      bytes: 1344),
    Entry(
      spi: 0x9b53_4a88, incoming: true,
      authenticationKey: "693de5805bafa38de0fd49e4645b569bcb9621b2e0d43e3eb4d3b06c59471806",
      encryptionKey: "7bae8e0c7abb6cb487c9b7b0bd50e039", added: 1_293_629_057, source: farNetwork,
      destination: nearNetwork),
    Entry(
      spi: 0xaf79_def1, incoming: false,
      authenticationKey: "aee517fc262ef9931a29c8a0063ce2f6ad95343b60b13d08ddbec675b3d48810",
      encryptionKey: "b2765081a9288d9eeb7a628dcd77decd", added: 1_293_629_057, source: nearNetwork,
      destination: farNetwork),
    Entry(
      spi: 0xe600_714c, incoming: true,
      authenticationKey: "474ebe7d6e3a9d87910264489902fd59808b15994b2c18571719140de7f6c2b8",
      encryptionKey: "6e7c74d57373a09dca2810c221a92e73", added: 1_293_629_140, source: farNetwork, destination: near),
    Entry(
      spi: 0xedb6_0d48, incoming: false,
      authenticationKey: "4c37375d027fbc60400e78f6d0eb0f177b568b937a8102cb15df4e48466e8a7f",
      encryptionKey: "ff5c5dd007222688dc68ef7b13771f62", added: 1_293_629_094, source: near, destination: far,
      bytes: 1176),
    Entry(
      spi: 0xf20a_28d4, incoming: false,
      authenticationKey: "04d5bdca578ff0e04ffe9aeeb85b9627c71cde734356ce3854e8dad18b9543a2",
      encryptionKey: "56bdd25d34b6aa99ffd5301c6ca96c26", added: 1_293_629_140, source: near, destination: farNetwork),
    Entry(
      spi: 0xf2d2_52c4, incoming: false,
      authenticationKey: "4bea67fb5354b699dbec5d668c41138e9d63c9bd1729a93f5b617a5986aec0e7",
      encryptionKey: "12d5d3fcf60f213546ba333e16c1bf3d", added: 1_293_629_063, source: nearNetwork, destination: far),
  ]

  static func sas() throws -> [SARecord] { try entries.reversed().map(record) }

  private static func record(_ entry: Entry) throws -> SARecord {
    let (source, destination) = entry.incoming ? (far, near) : (near, far)
    var sa = SAParameters(
      spi: entry.spi, source: try address(source), destination: try address(destination),
      transform: CryptoTransform(
        encryption: .aesCBC, encryptionKey: secret(entry.encryptionKey), authentication: .hmacSHA256,
        authenticationKey: secret(entry.authenticationKey)), replayWindow: 16)
    sa.direction = entry.incoming ? .in : .out
    sa.hard = Lifetime(addTime: 1200)
    sa.soft = Lifetime(addTime: 1080)
    sa.sourceIdentity = Identity(kind: .prefix, text: "\(source)/32")
    sa.destinationIdentity = Identity(kind: .prefix, text: "\(destination)/32")
    sa.selector = Selector(source: try prefix(entry.source), destination: try prefix(entry.destination))
    var record = SARecord(parameters: sa, state: .mature)
    record.usage.added = entry.added
    record.usage.bytes = entry.bytes
    record.sequence = entry.bytes / 84
    if entry.bytes > 0 {
      record.usage.firstUsed = 1_293_629_104
      record.usage.lastUsed = 1_293_629_466
    }
    if entry.incoming {
      record.counters.inputBytes = entry.bytes
      record.counters.inputPackets = record.sequence
    } else {
      record.counters.outputBytes = entry.bytes
      record.counters.outputPackets = record.sequence
    }
    return record
  }

  static func secret(_ hex: String) -> SecretBytes {
    let digits = Array(hex)
    return SecretBytes(
      stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) })
  }
}

@Suite struct IPsecctlPrinterTests {
  @Test func missionFlows() throws {
    try Golden.check(IPsecctlPrinter().flows(try Mission.policies()), "mission-flow")
  }

  @Test func missionSAs() throws {
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: 2, showsKeys: true))
    try Golden.check(printer.sas(try Mission.sas()), "mission-sa")
  }

  @Test func missionAll() throws {
    let text = IPsecctlPrinter().all(policies: try Mission.policies(), sas: try Mission.sas())
    #expect(text.hasPrefix("FLOWS:\nflow esp in from 172.20.1.0/24"))
    #expect(text.contains(" type require\n\nSAD:\nesp tunnel from 200.69.110.71 to 202.245.63.218 spi 0x2d2148ab"))
    #expect(text.hasSuffix(" spi 0xf2d252c4 auth hmac-sha2-256 enc aes\n"))
    #expect(IPsecctlPrinter().all(policies: [], sas: []) == "FLOWS:\nNo flows\n\nSAD:\nNo entries\n")
    #expect(IPsecctlPrinter().flows([]).isEmpty && IPsecctlPrinter().sas([]).isEmpty)
  }

  /// The page's `route -n show`, its misprinted peer aside, in today's order.
  @Test func missionEncapTable() throws {
    #expect(
      EncapTablePrinter.text(try Mission.policies()) == """

        Encap:
        Source             Port  Destination        Port  Proto SA(Address/Proto/Type/Direction)
        172.20.1/24        0     192.168.60/24      0     0     200.69.110.71/esp/use/in
        172.20.1/24        0     202.245.63.218/32  0     0     200.69.110.71/esp/use/in
        200.69.110.71/32   0     192.168.60/24      0     0     200.69.110.71/esp/use/in
        200.69.110.71/32   0     202.245.63.218/32  0     0     200.69.110.71/esp/use/in
        192.168.60/24      0     172.20.1/24        0     0     200.69.110.71/esp/require/out
        192.168.60/24      0     200.69.110.71/32   0     0     200.69.110.71/esp/require/out
        202.245.63.218/32  0     172.20.1/24        0     0     200.69.110.71/esp/require/out
        202.245.63.218/32  0     200.69.110.71/32   0     0     200.69.110.71/esp/require/out

        """)
    #expect(EncapTablePrinter.text([]).isEmpty)
  }

  // MARK: Flows

  static func policy(
    _ source: String, _ destination: String, _ direction: PolicyDirection = .out, _ type: PolicyType = .require,
    peer: String? = nil
  ) throws -> PolicyRecord {
    var policy = PolicyParameters(
      direction: direction,
      selector: Selector(source: try Mission.prefix(source), destination: try Mission.prefix(destination)), type: type)
    policy.peer = try peer.map(Mission.address)
    return PolicyRecord(index: 1, parameters: policy)
  }

  @Test func flowsInFull() throws {
    var whole = try Self.policy("2001:db8:1::/48", "::/0", .in, .dontacq, peer: "2001:db8::1")
    whole.parameters.saProtocol = .ah
    whole.parameters.selector.ipProtocol = 6
    whole.parameters.selector.sourcePorts = 22...22
    whole.parameters.selector.destinationPorts = 1024...2047
    whole.parameters.local = IPAddress("2001:db8::2")
    whole.parameters.sourceIdentity = Identity(kind: .fqdn, text: "a.example.org")
    whole.parameters.destinationIdentity = Identity(kind: .ufqdn, text: "b@example.org")
    let plain = try Self.policy("0.0.0.0/0", "10.0.0.1", .out, .bypass)
    let forward = try Self.policy("10.9.0.0/16", "10.0.0.1", .forward, .use)
    let inbound = try Self.policy("10.9.0.0/16", "10.0.0.1", .in, .use)
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: 2))
    #expect(
      printer.flows([whole, plain, forward, inbound]) == """
        @0 flow esp in from 10.9.0.0/16 to 10.0.0.1 type use
        @1 flow esp out from 0.0.0.0/0 to 10.0.0.1 type bypass
        @2 flow ah in proto tcp from 2001:db8:1::/48 port ssh to ::/0 port 1024:2047 local 2001:db8::2 \
        peer 2001:db8::1 srcid a.example.org dstid b@example.org type dontacq

        """)
    #expect(IPsecctlPrinter().flows([forward]) == "flow esp in from 10.9.0.0/16 to 10.0.0.1 type use\n")
  }

  @Test func longerPrefixesComeFirst() throws {
    let policies = try ["10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/16", "9.0.0.0/8"].map { try Self.policy($0, "1.1.1.1") }
    let order = IPsecctlPrinter().flows(policies).split(separator: "\n").compactMap { $0.split(separator: " ")[4] }
    #expect(order == ["9.0.0.0/8", "10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/8"])
  }

  @Test func collapsedFlows() throws {
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: 2, collapses: true))
    let policies = try [("10.1.0.0/16", "10.3.0.0/16"), ("10.1.0.0/16", "10.4.0.0/16"), ("10.2.0.0/16", "10.4.0.0/16")]
      .map { try Self.policy($0.0, $0.1, peer: "192.0.2.2") }
    let other = try Self.policy("10.2.0.0/16", "10.9.0.0/16", peer: "192.0.2.3")
    #expect(
      printer.flows(policies + [other]) == """
        @0,1,2 flow esp out from { 10.1.0.0/16, 10.2.0.0/16 } to { 10.3.0.0/16, 10.4.0.0/16 } peer 192.0.2.2 type require
        @3 flow esp out from { 10.2.0.0/16 } to { 10.9.0.0/16 } peer 192.0.2.3 type require

        """)
  }

  // MARK: SAs

  static func sa(_ saProtocol: SAProtocol, _ spi: UInt32, _ mode: SAMode = .transport, _ transform: CryptoTransform)
    throws -> SARecord
  {
    SARecord(
      parameters: SAParameters(
        spi: spi, source: try Mission.address("192.0.2.1"), destination: try Mission.address("192.0.2.2"),
        saProtocol: saProtocol, mode: mode, transform: transform), state: .mature)
  }

  static func key(_ count: Int) -> SecretBytes { SecretBytes([UInt8](repeating: 0xab, count: count)) }

  @Test func bundlesAndOtherProtocols() throws {
    let sha = CryptoTransform(encryption: .null, authentication: .hmacSHA1, authenticationKey: Self.key(20))
    let gcm = CryptoTransform(encryption: .aesGCM16, encryptionKey: Self.key(36))
    var esp = try Self.sa(.esp, 0x3000, .transport, gcm)
    let ah = try Self.sa(.ah, 0x2000, .transport, sha)
    esp.parameters.bundledWith = ah.parameters.identifier
    esp.parameters.extendedSequenceNumbers = true
    esp.parameters.encapsulation = UDPEncapsulation(destinationPort: 4501)
    esp.state = .dying
    esp.mtu = 1400
    var ipcomp = try Self.sa(.ipcomp, 0x1000, .tunnel, CryptoTransform(encryption: .null))
    ipcomp.parameters.compression = .deflate
    ipcomp.parameters.replayWindow = 0
    ipcomp.counters.inputPackets = 1
    ipcomp.counters.decompressedBytes = 7
    let ipip = try Self.sa(.ipip, 0x4000, .tunnel, CryptoTransform(encryption: .null))
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: 1))
    try Golden.check(printer.sas([esp, ah, ipcomp, ipip]), "show-sa-v")
    let keys = IPsecctlPrinter(options: PrintOptions(showsKeys: true))
    try Golden.check(keys.sas([esp, ah, ipcomp, ipip]), "show-sa-k")
  }

  @Test(arguments: [
    (EncryptionAlgorithm.aesCBC, 16, "aes", "aes", "none"), (.aesCBC, 24, "aes-192", "aes", "none"),
    (.aesCTR, 20, "aesctr", "aesctr", "none"), (.aesCTR, 36, "aes-256-ctr", "aesctr", "none"),
    (.aesGCM16, 20, "aes-128-gcm", "aes-gcm", "gmac-aes-128"),
    (.aesGMAC, 28, "aes-192-gmac", "aes-gmac", "gmac-aes-192"),
    (.chacha20Poly1305, 36, "chacha20-poly1305", "chacha20-poly1305", "chacha20-poly1305"),
    (.tripleDESCBC, 24, "3des-cbc", "3des-cbc", "none"), (.null, 0, "null", "null", "none"),
    (.aesGCM8, 20, "aes-128-gcm-8", "aes-gcm-8", "gmac-aes-128"),
    (.aesCCM12, 35, "aes-256-ccm-12", "aes-ccm-12", "cbc-mac-aes-256"),
    (.camelliaCBC, 32, "camellia-256", "camellia", "none"),
  ]) func encryptionNames(
    _ algorithm: EncryptionAlgorithm, _ keyLength: Int, _ short: String, _ encryption: String, _ authentication: String
  ) throws {
    let transform = CryptoTransform(encryption: algorithm, encryptionKey: Self.key(keyLength))
    let text = IPsecctlPrinter(options: PrintOptions(verbosity: 1)).sas([try Self.sa(.esp, 1, .tunnel, transform)])
    let lines = text.split(separator: "\n")
    #expect(lines[0] == "esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x00000001 enc \(short)")
    #expect(lines[1] == "\tsa: spi 0x00000001 auth \(authentication) enc \(encryption)")
    #expect(!text.contains("ababab"))
  }

  // MARK: -m

  @Test func monitor() throws {
    var printer = MonitorPrinter()
    let sa = try #require(try Mission.sas().last)
    let policy = try #require(try Mission.policies().first)
    var request = AcquireRequest(
      sequence: 77, policy: policy,
      template: SATemplate(
        source: .unspecified(.v4), destination: try Mission.address(Mission.far)),
      packet: Selector(source: try Mission.prefix("192.168.60.7"), destination: try Mission.prefix("172.20.1.9")))
    request.policy.parameters.local = try Mission.address(Mission.near)
    let text = [
      DatabaseEvent.saAdded(sa), .saUpdated(sa), .saExpired(sa, hard: false), .saExpired(sa, hard: true),
      .saDeleted(sa),
      .acquire(request), .acquireExpired(request), .policyAdded(policy), .policyDeleted(policy), .sasFlushed(nil),
      .sasFlushed(.ah), .policiesFlushed,
      .mapping(sa, newSource: try Mission.address("198.51.100.9"), newPort: 1024),
    ].map { printer.text($0, pid: 9) }.joined()
    try Golden.check(text, "monitor")
    #expect(!text.contains("61dac444"))
    #expect(MonitorPrinter.raw(0..<9) == "RAW PFKEYV2 MESSAGE:\n00 01 02 03 04 05 06 07 \n08 \n")
  }
}
