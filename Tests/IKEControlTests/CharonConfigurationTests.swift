import ConfigurationFiles
import Engines
import Testing

@testable import IKEControl

@Suite struct CharonConfigurationTests {
  @Test func example() throws {
    let configuration = CharonConfiguration(try Rules.parse(Rules.example))
    #expect(configuration.refusals.isEmpty)
    let connection = try #require(configuration.connections.first)
    #expect(connection.name == "peer-198.51.100.2-local-198.51.100.1")
    #expect(connection.children == ["from-192.168.60.0/24-to-172.20.1.0/24"])
    let section = connection.section
    #expect(section.text("version") == "2" && section.list("local_addrs") == ["198.51.100.1"])
    #expect(section.list("remote_addrs") == ["198.51.100.2"])
    #expect(section.list("proposals") == ["aes256-sha256-modp2048"])
    #expect(section.text("rekey_time") == "3240s" && section.text("over_time") == "360s")
    #expect(section.section("local-1") == VICISection(["auth": "psk"]))
    #expect(section.section("remote-1") == VICISection(["auth": "psk", "id": "198.51.100.2"]))
    let child = try #require(section.section("children")?.section(connection.children[0]))
    #expect(child.list("local_ts") == ["192.168.60.0/24"] && child.list("remote_ts") == ["172.20.1.0/24"])
    #expect(child.list("esp_proposals") == ["aes128gcm16-modp2048-esn-noesn"])
    #expect(child.text("start_action") == "trap" && child.text("life_time") == "600s")
    let secret = try #require(configuration.secrets.first)
    #expect(secret.message["data"] == .secret(SecretBytes(Array("a secret".utf8))))
    #expect(secret.message.list("owners") == ["198.51.100.2"])
  }

  @Test(arguments: [
    ("", "aes128-aes192-aes256-sha1-modp3072", "aes128-aes192-aes256-sha256-modp3072-esn-noesn"),
    (
      "main enc aes-256-gcm quick enc chacha20-poly1305 group none", "aes256gcm16-prfsha256-modp3072",
      "chacha20poly1305-esn-noesn"
    ),
    (
      "main auth hmac-sha2-512 enc 3des group bp256 quick auth hmac-sha2-384 enc aes-192 group ecp384",
      "3des-sha512-ecp256bp", "aes192-sha384-ecp384-esn-noesn"
    ),
    ("quick enc aes-256-gmac", "aes128-aes192-aes256-sha1-modp3072", "aes256gmac-modp3072-esn-noesn"),
    (
      "quick enc aes-128-ctr auth hmac-sha1", "aes128-aes192-aes256-sha1-modp3072",
      "aes128ctr-sha1-modp3072-esn-noesn"
    ),
  ])
  func proposals(_ rule: String, _ main: String, _ quick: String) throws {
    let rules = try Rules.parse("ike from 10.0.0.0/8 to 192.0.2.0/24 peer 192.0.2.2 \(rule) psk x\n")
    let section = try #require(CharonConfiguration(rules).connections.first?.section)
    #expect(section.list("proposals") == [main])
    #expect(section.section("children")?.sections.first?.section.list("esp_proposals") == [quick])
  }

  @Test func modesProtocolsIdentities() throws {
    let rules = try Rules.parse(
      """
      ike dynamic ah transport proto tcp from 192.0.2.1 port 80 to 192.0.2.2 local 192.0.2.1 dstid b.example
      ike passive from any to 10.0.0.0/8 peer any srcid me@a.example psk one
      ike from 10.1.0.0/16 to 10.2.0.0/16 peer 2001:db8::2 srcid 2001:db8::1 dstid "C=CH, CN=moon" psk two
      ike passive from 10.1.0.0/16 to 10.3.0.0/16 peer 2001:db8::2 srcid 2001:db8::1 dstid "C=CH, CN=moon" psk three

      """)
    let configuration = CharonConfiguration(rules, hostname: "host.example")
    #expect(
      configuration.connections.map(\.name) == ["peer-192.0.2.2-local-192.0.2.1", "peer-default", "peer-2001:db8::2"])
    let (first, second, third) = (
      configuration.connections[0].section, configuration.connections[1].section, configuration.connections[2].section
    )
    #expect(first.section("local-1") == VICISection(["auth": "pubkey", "id": "fqdn:host.example"]))
    #expect(first.section("remote-1")?.text("id") == "fqdn:b.example" && first.text("dpd_delay") == "5s")
    let child = try #require(first.section("children")?.sections.first?.section)
    #expect(child.list("local_ts") == ["192.0.2.1[6/80]"] && child.list("remote_ts") == ["192.0.2.2[6]"])
    #expect(child.text("mode") == "transport" && child.list("ah_proposals") == ["sha256-modp3072-esn-noesn"])
    #expect(second.list("remote_addrs") == ["%any"] && second.section("local-1")?.text("id") == "rfc822:me@a.example")
    #expect(second.section("children")?.sections.first?.section.text("start_action") == "none")
    #expect(configuration.secrets[0].message["owners"] == nil)
    // Two rules of one peer share its IKE SA; the last one's key counts.
    #expect(third.section("children")?.sections.count == 2)
    #expect(third.section("remote-1")?.text("id") == "C=CH, CN=moon")
    #expect(configuration.secrets.map(\.id) == ["gw-peer-default", "gw-peer-2001:db8::2"])
    #expect(configuration.secrets[1].message["data"] == .secret(SecretBytes(Array("three".utf8))))
  }

  @Test(arguments: [
    ("ike from 10.1.0.0/16 (10.9.0.0/16) to 10.2.0.0/16 peer 192.0.2.2", "(10.9.0.0/16): the gateway does no address"),
    ("ike interface sec0 peer 192.0.2.2", "interface sec0: the gateway has no sec(4) interfaces"),
    ("ike from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2 aggressive", "aggressive is IKE version 1"),
    ("ike from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2 quick auth hmac-ripemd160", "quick auth hmac-ripemd160"),
    ("ike from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2 psk x tag t", "tag t: tags are for pf"),
  ])
  func refusals(_ rule: String, _ reason: String) throws {
    let configuration = CharonConfiguration(try Rules.parse(rule + "\n"))
    #expect(configuration.connections.isEmpty)
    #expect(configuration.refusals.first?.reason.hasPrefix(reason) == true, "\(configuration.refusals)")
  }

  /// What rules of one peer ask for differs: the peer is offered all of it, in the rules' order, as by isakmpd.
  @Test func transformsOfAllRulesAreProposed() throws {
    let rules = try Rules.parse(
      """
      ike from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2 main enc aes-256 auth hmac-sha2-256 group modp2048 psk x
      ike from 10.1.0.0/16 to 10.3.0.0/16 peer 192.0.2.2 main enc aes-128-gcm group ecp256 psk x
      ike from 10.1.0.0/16 to 10.4.0.0/16 peer 192.0.2.2 main enc aes-256 auth hmac-sha2-256 group modp2048 psk x
      ike from 10.1.0.0/16 to 10.5.0.0/16 peer 192.0.2.2 main enc 3des psk x tag t

      """)
    let configuration = CharonConfiguration(rules)
    let section = try #require(configuration.connections.first?.section)
    #expect(section.list("proposals") == ["aes256-sha256-modp2048", "aes128gcm16-prfsha256-ecp256"])
    #expect(configuration.connections.first?.children.count == 3)
    #expect(configuration.refusals.map(\.connection) == ["from-10.1.0.0/16-to-10.5.0.0/16"])
  }

  @Test func versionOne() throws {
    let rules = try Rules.parse("ike from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2 aggressive psk x\n")
    let section = try #require(CharonConfiguration(rules, version: .v1).connections.first?.section)
    #expect(section.text("version") == "1" && section.text("aggressive") == "yes")
    #expect(
      section.section("children")?.sections.first?.section.list("esp_proposals")
        == ["aes128-aes192-aes256-sha256-modp3072"])
  }

  @Test func iked() throws {
    let rules = try Rules.parse(
      """
      ike from 10.1.0.0/16 to 10.2.0.0/16 local 192.0.2.1 peer 192.0.2.2 main auth hmac-sha2-256 enc aes-256 \\
        group modp2048 quick auth hmac-sha2-512 enc aes-256 group none srcid a.example psk "pass\\"word"
      ike from 10.1.0.0/16 to 10.3.0.0/16 local 192.0.2.1 peer 192.0.2.2 main auth hmac-sha2-256 enc aes-256 \\
        group modp2048 quick auth hmac-sha2-512 enc aes-256 group none srcid a.example psk secret
      ike from 10.1.0.0/16 to 10.4.0.0/16 local 192.0.2.1 peer 192.0.2.2 quick enc aes-256-gcm psk secret

      """)
    let configuration = IkedConfiguration(rules)
    #expect(
      configuration.refusals.map(\.reason) == [
        "quick enc aes-256-gcm: iked on Linux does not have it for child SAs"
      ])
    let text = configuration.text(showsKeys: true)
    #expect(
      text == """
        ikev2 "from-10.1.0.0/16-to-10.2.0.0/16" active tunnel esp inet \\
        \tfrom 10.1.0.0/16 to 10.2.0.0/16 \\
        \tfrom 10.1.0.0/16 to 10.3.0.0/16 \\
        \tlocal 192.0.2.1 peer 192.0.2.2 \\
        \tikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group modp2048 \\
        \tchildsa enc aes-256 auth hmac-sha2-512 noesn \\
        \tsrcid "a.example" dstid 192.0.2.2 \\
        \tikelifetime 3600 lifetime 1200 \\
        \tpsk "secret"

        """)
    #expect(!configuration.text(showsKeys: false).contains("\"secret\""))
  }
}
