import Foundation
import IPsec
import Testing
import Wire

@testable import ConfigurationFiles

@Suite struct IPsecConfTests {
  static func parse(_ text: String, macros: [Macro] = []) throws -> IPsecConf {
    try IPsecConf.parse(text: text, macros: macros, resolver: IPsecctl.resolver)
  }

  /// The lines for stderr of a file that is refused.
  static func refusal(_ text: String) -> [String] {
    do {
      _ = try parse(text)
      return []
    } catch let error as IPsecConfError {
      return error.diagnostics.map(\.description)
    } catch {
      return ["\(error)"]
    }
  }

  static let key16 = "0x" + String(repeating: "e", count: 32)
  static let key32 = "0x" + String(repeating: "a", count: 64)

  @Test(arguments: [
    ("flow from 10.1.0.0/16 to 192.0.2.2\r\n", 1), ("\r\n", 1), ("a = \"x\"\r\nflow from $a to 10.0.0.1\r\n", 1),
    ("# comment\r\nflow from 10.1.0.0/16 \\\r\n to 192.0.2.2\n", 2),
  ])
  func carriageReturnsAreNamed(_ text: String, _ line: Int) {
    let refusal = Self.refusal(text)
    #expect(refusal.first?.hasPrefix("stdin: \(line): syntax error: a carriage return (CR)") == true, "\(refusal)")
  }

  // MARK: Keys

  /// Messages go into the log, and to users of the API who see no keys.
  @Test func noMessageHoldsAKey() throws {
    let keys = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210fedcba98"]
    let words =
      "esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x1000:0x1001 auth hmac-sha1 enc aes authkey 0x\(keys[1]) enckey 0x\(keys[0])"
      .split(separator: " ").map(String.init)
    func check(_ words: [String]) {
      let text = Self.refusal(words.joined(separator: " ") + "\n").joined(separator: "\n")
      for key in keys { #expect(!text.contains(key.prefix(12)), "\(text)") }
    }
    for index in words.indices {
      var without = words
      without.remove(at: index)
      check(without)
      for key in keys {
        var replaced = words
        replaced[index] = key
        check(replaced)
        replaced[index] = "0x" + key
        check(replaced)
        replaced[index] = "{ 0x\(key) 0x\(key) }"
        check(replaced)
        replaced[index] = "file \"\(key):\(key)\""
        check(replaced)
      }
      for other in words.indices {
        var swapped = words
        swapped.swapAt(index, other)
        check(swapped)
      }
    }
  }

  // MARK: Values

  @Test func aFlowIsTwoPolicies() throws {
    let conf = try Self.parse("flow proto tcp from 10.1.2.3/16 port 80 to 10.2.0.0/16 local 192.0.2.1 peer 192.0.2.2\n")
    let policies = try conf.transaction().policies
    #expect(policies.map(\.direction) == [.out, .in])
    let (out, inbound) = (policies[0], policies[1])
    #expect(out.selector.source == IPPrefix("10.1.0.0/16") && out.selector.ipProtocol == 6)
    #expect(out.selector.sourcePorts == 80...80 && out.selector.destinationPorts == Selector.anyPort)
    #expect(inbound.selector == out.selector.mirrored)
    #expect(out.type == .require && inbound.type == .require && out.priority == nil)
    #expect(out.local == IPAddress("192.0.2.1") && inbound.peer == IPAddress("192.0.2.2"))
    #expect(out.templates.map(\.destination) == [IPAddress("192.0.2.2")])
    #expect(inbound.templates.map(\.source) == [IPAddress("192.0.2.2")])
    #expect(inbound.templates.map(\.destination) == [IPAddress("192.0.2.1")])
    #expect(out.templates[0].mode == .tunnel && out.owner == .configuration)
  }

  @Test func bypassAndDenyHaveNoTemplates() throws {
    let conf = try Self.parse(
      "flow out from 10.1.0.0/16 to 10.2.0.0/16 type bypass\nflow in from 10.1.0.0/16 to 10.2.0.0/16 type deny\n")
    let policies = try conf.transaction().policies
    #expect(policies.map(\.type) == [.bypass, .deny] && policies.allSatisfy(\.templates.isEmpty))
    #expect(policies.allSatisfy { $0.peer == nil })
  }

  @Test func theLastFlowWithASelectorStands() throws {
    let conf = try Self.parse(
      "flow from 10.1.0.0/16 to 192.0.2.2\nflow from 10.1.0.0/16 to 192.0.2.2 type use\n")
    #expect(conf.rules.count == 4)
    #expect(try conf.transaction().policies.map(\.type) == [.use, .use])
  }

  @Test func identitiesAreTyped() throws {
    let conf = try Self.parse(
      "flow out from 10.1.0.0/16 to 192.0.2.2 srcid 192.0.2.1 dstid a@b.c\n"
        + "flow out from 10.2.0.0/16 to 192.0.2.2 dstid gw.example.org\n")
    let policies = try conf.transaction().policies
    #expect(policies[0].sourceIdentity == Identity(kind: .prefix, text: "192.0.2.1/32"))
    #expect(policies[0].destinationIdentity == Identity(kind: .ufqdn, text: "a@b.c"))
    #expect(policies[1].sourceIdentity == nil)
    #expect(policies[1].destinationIdentity == Identity(kind: .fqdn, text: "gw.example.org"))
  }

  @Test func sasAreMirrored() throws {
    let conf = try Self.parse(
      "esp transport from 192.0.2.1 to 192.0.2.2 spi 0x1000:0x1001 udpencap port 4501 enc aes-256 "
        + "authkey \(Self.key32):\(Self.key32) enckey \(Self.key32):\(Self.key32)\n"
        + "flow from 192.0.2.1 to 192.0.2.2\n")
    let transaction = try conf.transaction()
    let sas = transaction.sas
    #expect(sas.map(\.spi) == [0x1000, 0x1001] && sas.map(\.mode) == [.transport, .transport])
    #expect(sas[1].source == IPAddress("192.0.2.2") && sas[1].destination == IPAddress("192.0.2.1"))
    #expect(sas[0].transform.encryption == .aesCBC && sas[0].transform.encryptionKey.count == 32)
    #expect(sas[0].transform.authentication == .hmacSHA256 && sas[0].transform.authenticationKey.count == 32)
    #expect(sas[0].encapsulation == UDPEncapsulation(sourcePort: 4500, destinationPort: 4501))
    #expect(sas[0].replayWindow == 0 && !sas[0].extendedSequenceNumbers)
    #expect(transaction.policies[0].templates[0].mode == .transport)
  }

  @Test func everyKindOfSA() throws {
    let conf = try Self.parse(
      "ah from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey \(Self.key32)\n"
        + "ipcomp from 192.0.2.1 to 192.0.2.2 spi 0x1001\nipip from 192.0.2.1 to 192.0.2.2 spi 0x1002\n"
        + "esp from 2001:db8::1 to 2001:db8::2 spi 0x1003 enc null auth hmac-sha1 "
        + "authkey 0x\(String(repeating: "1", count: 40))\n"
        + "esp from 192.0.2.1 to 192.0.2.2 spi 0x1004 enc 3des-cbc auth none "
        + "enckey 0x\(String(repeating: "1", count: 48))\n")
    let sas = try conf.transaction(allowWeak: true).sas
    #expect(sas.map(\.saProtocol) == [.ah, .ipcomp, .ipip, .esp, .esp])
    #expect(sas.map(\.transform.encryption) == [.null, .null, .null, .null, .tripleDESCBC])
    #expect(sas.map(\.transform.authentication) == [.hmacSHA256, nil, nil, .hmacSHA1, nil])
    #expect(sas[1].compression == .deflate)
    #expect(conf.cautions.map(\.description) == ["stdin: 5: auth none is weak", "stdin: 5: enc 3des-cbc is weak"])
  }

  @Test func bundles() throws {
    let conf = try Self.parse(
      "esp transport from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey \(Self.key32) enckey \(Self.key16) bundle b\n"
        + "ah transport from 192.0.2.1 to 192.0.2.2 spi 0x1001 authkey \(Self.key32) bundle b\n")
    let bundle = try #require(try conf.transaction().bundles.first)
    #expect(bundle.first.saProtocol == .esp && bundle.then.saProtocol == .ah && bundle.then.spi == 0x1001)
  }

  /// What is parsed and printed, yet the gateway cannot do: each with its line.
  @Test func whatTheEnginesLack() {
    let text = """
      tcpmd5 from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey 0xaa
      esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 enc blowfish authkey \(Self.key32) enckey \(Self.key16)
      esp from 192.0.2.1 to 192.0.2.2 spi 0x1001 enc cast128 authkey \(Self.key32) enckey \(Self.key16)
      ah from 192.0.2.1 to 192.0.2.2 spi 0x1002 auth hmac-ripemd160 authkey 0x\(String(repeating: "1", count: 40))
      esp from 192.0.2.1 to 192.0.2.2 spi 0x1003 authkey \(Self.key32) enckey \(Self.key16)ff
      ipcomp from 192.0.2.1 to 192.0.2.2 spi 0x10000
      ipip from any to 192.0.2.2 spi 0x1004
      ah from 192.0.2.1 to 192.0.2.2 spi 0x1005 udpencap authkey \(Self.key32)
      ipip from 192.0.2.1 to 192.0.2.2 spi 0x1006
      ipip from 192.0.2.3 to 192.0.2.2 spi 0x1006

      """
    let error = #expect(throws: IPsecConfError.self) { try Self.parse(text).transaction() }
    #expect(
      error?.diagnostics.map(\.description) == [
        "stdin: 1: tcpmd5 is not supported here: the gateway ends no TCP connections",
        "stdin: 2: enc blowfish is not supported by this gateway",
        "stdin: 3: enc cast128 is not supported by this gateway",
        "stdin: 4: auth hmac-ripemd160 is not supported by this gateway",
        "stdin: 5: a key of 136 bits does not fit enc aes: 128, 192, 256 bits do",
        "stdin: 6: the spi of ipcomp is a CPI of 16 bits, 65536 is larger",
        "stdin: 7: an SA needs two hosts, 0.0.0.0 is none",
        "stdin: 8: udpencap is for esp only",
        "stdin: 10: the SA ipip to 192.0.2.2 spi 0x00001006 is there twice",
      ])
  }

  @Test func weakAlgorithmsNeedASwitch() throws {
    let conf = try Self.parse("ah from 192.0.2.1 to 192.0.2.2 spi 0x1000 auth hmac-md5 authkey \(Self.key16)\n")
    let error = #expect(throws: IPsecConfError.self) { try conf.transaction() }
    #expect(error?.description == "stdin: 1: auth hmac-md5 is weak: it needs allow-weak in gateway.yaml")
    #expect(try conf.transaction(allowWeak: true).sas.map(\.transform.authentication) == [.hmacMD5])
  }

  /// Parsed and printed as OpenBSD does, and refused when it is loaded: each with its line.
  @Test func encryptionAloneNeedsASwitch() throws {
    let des = String(repeating: "0102030405060708", count: 2) + String(repeating: "1", count: 16)
    let conf = try Self.parse(
      "esp from 192.0.2.1 to 192.0.2.2 spi 0x1000 auth none enckey \(Self.key16)\n"
        + "esp from 192.0.2.1 to 192.0.2.2 spi 0x1001 enc 3des-cbc authkey \(Self.key32) enckey 0x\(des)\n")
    #expect(conf.rules.count == 2)
    let error = #expect(throws: IPsecConfError.self) { try conf.transaction() }
    #expect(
      error?.diagnostics.map(\.description) == [
        "stdin: 1: enc without auth does not keep what it encrypts secret (RFC 8221 4, RFC 3686 8): "
          + "it needs allow-weak in gateway.yaml",
        "stdin: 2: a 3des key with two equal neighbours is a DES key (RFC 2451 2.6): it needs allow-weak in gateway.yaml",
      ])
    #expect(try conf.transaction(allowWeak: true).sas.count == 2)
    // Never, whatever is permitted.
    let nothing = try Self.parse("esp from 192.0.2.1 to 192.0.2.2 spi 0x1002 enc null auth none\n")
    let refusal = #expect(throws: IPsecConfError.self) { try nothing.transaction(allowWeak: true) }
    #expect(refusal?.description == "stdin: 1: esp that neither encrypts nor authenticates is refused (RFC 4303 3.2)")
  }

  @Test func ikeConnections() throws {
    let conf = try Self.parse(
      """
      ike passive from 10.1.1.0/24 (192.168.1.0/24) to 10.1.2.0/24 local 192.0.2.1 peer 192.0.2.2 \\
        aggressive enc aes-256 group modp2048 lifetime 2h quick enc aes-256-gcm group none lifetime 90 \\
        srcid a@b.c dstid 192.0.2.2 psk secret tag t
      ike ah transport from 192.0.2.1 to 192.0.2.2
      ike from any to any quick enc chacha20-poly1305

      """)
    let connections = try conf.connections()
    #expect(connections.count == 4)
    let first = connections[0]
    #expect(first.mode == .passive && first.exchange == .aggressive && first.peer == IPAddress("192.0.2.2"))
    #expect(first.phase1.encryption == .aes256 && first.phase1.authentication == .hmacSHA1)
    #expect(first.phase1.group == .modp2048 && first.phase1Lifetime == 7200 && first.phase2Lifetime == 90)
    #expect(first.phase2 == .init(encryption: .aes256GCM, authentication: nil, group: nil))
    #expect(first.localIdentity?.kind == .ufqdn && first.remoteIdentity?.text == "192.0.2.2/32")
    #expect(first.sourceNAT == IPPrefix("192.168.1.0/24") && first.tag == "t")
    #expect(first.selector.source == IPPrefix("10.1.1.0/24") && first.name == "from-10.1.1.0/24-to-10.1.2.0/24")
    #expect(connections[1].saProtocol == .ah && connections[1].encapsulation == .transport)
    #expect(connections[1].phase2 == .init(encryption: nil, authentication: .hmacSHA256, group: .modp3072))
    #expect(connections[2].peer == nil && connections[3].selector.family == .v6)
    #expect(connections[3].phase2.encryption == .chacha20Poly1305)
    #expect(try conf.transaction().policies.isEmpty)
  }

  @Test func illegalIKETransforms() {
    let error = #expect(throws: IPsecConfError.self) {
      try Self.parse("\nike from 192.0.2.1 to 192.0.2.2 main enc null\n").connections()
    }
    #expect(error?.diagnostics.map(\.description) == ["stdin: 2: illegal transform null"])
  }

  // MARK: Macros, files, limits

  @Test func commandLineMacros() throws {
    let macro = try #require(Macro(argument: "gw=192.0.2.9"))
    let conf = try Self.parse("gw = 192.0.2.2\nflow out from 10.1.0.0/16 to 192.0.2.1 peer $gw\n", macros: [macro])
    #expect(try conf.transaction().policies[0].peer == IPAddress("192.0.2.9"))
    #expect(Macro(argument: "a=b=c") == Macro(name: "a=b", value: "c") && Macro(argument: "a") == nil)
  }

  /// Files in a new folder; the folder is gone after the test.
  static func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "ipsecconf-\(UUID())").path()
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  static func write(_ text: String, _ path: String, mode: Int = 0o600) throws {
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
  }

  static func fileRefusal(_ path: String) -> String {
    do {
      _ = try IPsecConf.parse(file: path, resolver: .numericOnly)
      return ""
    } catch {
      return error.description
    }
  }

  @Test func filesOthersCanRead() throws {
    try Self.withFolder { folder in
      let file = "\(folder)/ipsec.conf"
      try Self.write("flow from 10.1.0.0/16 to 192.0.2.2\n", file)
      #expect(try IPsecConf.parse(file: file, resolver: .numericOnly).rules.count == 2)
      let lines = "ipsecctl: Syntax error in config file: ipsec rules not loaded"
      for mode in [0o644, 0o660, 0o604, 0o601] {
        try Self.write("flow from 10.1.0.0/16 to 192.0.2.2\n", file, mode: mode)
        #expect(
          Self.fileRefusal(file) == "ipsecctl: \(file): group writable or world read/writable\n\(lines)")
      }
      #expect(
        Self.fileRefusal("\(folder)/none") == "ipsecctl: pushfile: \(folder)/none: No such file or directory\n\(lines)")
      #expect(Self.fileRefusal(folder).hasPrefix("ipsecctl: pushfile: \(folder): Is a directory"))
    }
  }

  @Test func keyFilesOthersCanRead() throws {
    try Self.withFolder { folder in
      try Self.write(String(Self.key32.dropFirst(2)) + "\n", "\(folder)/key", mode: 0o644)
      let conf = try Self.parse(
        "ah from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey file \"\(folder)/key\"\n")
      #expect(conf.cautions.map(\.description) == ["stdin: 1: \(folder)/key: the key file is open to everyone"])
      try Self.write(String(repeating: "a", count: 1025), "\(folder)/long")
      try Self.write("", "\(folder)/empty")
      for (name, word) in [("long", "large"), ("empty", "small")] {
        #expect(
          Self.refusal("ah from 192.0.2.1 to 192.0.2.2 spi 0x1000 authkey file \"\(folder)/\(name)\"\n")
            == ["ipsecctl: \(folder)/\(name): key too \(word)"])
      }
    }
  }

  @Test func filesThatIncludeThemselves() throws {
    try Self.withFolder { folder in
      try Self.write("include \"\(folder)/b\"\n", "\(folder)/a")
      try Self.write("\ninclude \"\(folder)/a\"\n", "\(folder)/b")
      #expect(
        Self.fileRefusal("\(folder)/a").split(separator: "\n").prefix(2) == [
          "ipsecctl: pushfile: \(folder)/a: includes itself", "\(folder)/b: 2: failed to include file \(folder)/a",
        ])
      for depth in 0..<20 { try Self.write("include \"\(folder)/\(depth + 1)\"\n", "\(folder)/\(depth)") }
      #expect(Self.fileRefusal("\(folder)/0").contains("more than 16 files deep"))
    }
  }

  @Test func listsThatGrowTooLarge() {
    let hosts = (0..<400).map { "10.0.\($0 / 256).\($0 % 256)" }.joined(separator: " ")
    #expect(
      Self.refusal("flow from { \(hosts) } to { \(hosts) }\n") == ["stdin: 1: rules expand to more than 100000"])
    let deep = String(repeating: "{ ", count: 5000)
    #expect(Self.refusal("flow from \(deep)\n") == ["stdin: 1: lists nested more than 64 deep"])
    #expect(Self.refusal("a = \"\(String(repeating: "x", count: 9000))\"\n").first == "stdin: 1: string too long")
  }

  /// As many rules as are allowed, from a list and from lines of their own.
  @Test func aHundredThousandRules() throws {
    let hosts = (0..<250).map { "10.\($0).0.0/16" }.joined(separator: ", ")
    let conf = try Self.parse("flow from { \(hosts) } to { \(hosts.prefix(200 * 14)) 1.1.1.1/32 } peer any\n")
    #expect(conf.rules.count > 90_000)
    let lines = (0..<20_000).map { "flow from 10.0.0.0/8 to 11.\($0 / 256).\($0 % 256).1 # comment\n" }.joined()
    #expect(try Self.parse(lines).transaction().policies.count == 40_000)
  }

  @Test func mutationsNeverTrap() throws {
    var mutator = Mutator()
    let inputs = try Golden.names(prefix: "conf-").map(Golden.input)
    let vocabulary =
      Keyword.allCases.map { " \($0.rawValue) " } + [
        "{", "}", "(", ")", ",", "/", "$", "\"", "\\\n", "\n", "=", "#", ":",
      ]
    for round in 0..<mutator.rounds {
      let text = mutator.mutate(inputs[round % inputs.count], vocabulary: vocabulary)
      guard let conf = try? IPsecConf.parse(text: text, resolver: IPsecctl.resolver) else { continue }
      _ = try? conf.transaction(allowWeak: true)
      _ = try? conf.connections()
      _ = RulePrinter(options: PrintOptions(verbosity: 2, showsKeys: true)).output(conf.echo)
    }
  }
}
