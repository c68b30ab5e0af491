import Glibc
import Testing
import Wire

@testable import ConfigurationFiles

@Suite struct GatewayConfigurationTests {
  static let whole = """
    eal: ["--no-pci"]               # extra EAL arguments
    hugepages: false
    workers: [2, 3]
    idle: sleep
    crypto: ipsec-mb
    on-ike-exit: hold 45
    run-dir: /tmp/run
    state-dir: /tmp/state
    log-level: debug
    burst: 64
    numa: interleave
    allow-weak: true
    low-spis: true
    fragments: after
    portless-fragments: drop
    path-mtu-expiry: 30
    esp-padding: any
    source-check: loose
    metrics: {listen: "127.0.0.1:9100"}
    limits: {sas: 1000000, schedules: 500, flows: 4096, queued-packets-per-neighbor: 3}
    ports:
      - name: wan
        device: "0000:03:00.0"
        addresses: [198.51.100.1/24, "2001:db8:1::1/64"]
        mac: 02:00:00:00:00:01
        queues: 2
      - name: lan
        device: "net_pcap1,rx_pcap=in.pcap,tx_pcap=out.pcap"
        host: false
        addresses: [192.168.60.1/24]
        mtu: 9000
        source-check: off
    routes:
      - {to: 172.20.1.0/24, via: 198.51.100.2}
      - {to: "2001:db8:2::/48", port: wan}
      - {to: default, via: 198.51.100.254}
    neighbors: [{port: wan, address: 198.51.100.2, mac: "02:00:00:00:00:02"}]
    ipsec: ipsec.conf
    """

  @Test func everyKeyIsRead() throws {
    let c = try GatewayConfiguration(yaml: Self.whole, file: "/etc/gw/gateway.yaml")
    #expect(c.eal == ["--no-pci"])
    #expect(!c.hugepages && c.memory == 512 && c.workers == [2, 3])
    #expect(c.idle == .sleep && c.crypto == .ipsecMB && c.onIKEExit == .hold(seconds: 45))
    #expect(c.runDirectory == "/tmp/run" && c.stateDirectory == "/tmp/state" && c.logLevel == .debug)
    #expect(c.burst == 64 && c.allowWeak && c.lowSPIs && c.fragments == .after && c.portlessFragments == .drop)
    #expect(c.pathMTUExpiry == 30 && c.numa == .interleave && c.espPadding == .any)
    #expect(c.sourceCheck == .loose && c.sourceChecks == [.loose, .off])
    #expect(c.metrics?.address == IPAddress("127.0.0.1") && c.metrics?.port == 9100)
    #expect(c.limits.sas == 1_000_000 && c.limits.queuedPacketsPerNeighbor == 3 && c.limits.policies == 65_536)
    #expect(c.limits.schedules == 500 && c.limits.flows == 4096)
    #expect(c.ipsec == "/etc/gw/ipsec.conf")
    #expect(c.ports.map(\.name) == ["wan", "lan"])
    #expect(c.ports[0].host && !c.ports[1].host && c.ports[0].mtu == 1500 && c.ports[1].mtu == 9000)
    #expect(c.ports[0].addresses.map(\.description) == ["198.51.100.1/24", "2001:db8:1::1/64"])
    #expect(c.ports[0].addresses[0].network == IPPrefix("198.51.100.0/24"))
    #expect(c.ports[0].mac == MACAddress("02:00:00:00:00:01") && c.ports[0].queues == 2)
    #expect(c.routes.map { "\($0.to)" } == ["172.20.1.0/24", "2001:db8:2::/48", "0.0.0.0/0"])
    #expect(c.routes[1].port == "wan" && c.routes[1].via == nil)
    #expect(c.neighbors[0].mac == MACAddress("02:00:00:00:00:02"))
  }

  @Test func defaults() throws {
    let c = try GatewayConfiguration(yaml: "ports: [{name: a, device: net_null0}]")
    #expect(c.hugepages && c.memory == nil && c.workers == nil && c.idle == .poll && c.crypto == .auto)
    #expect(c.onIKEExit == .hold(seconds: 30) && c.runDirectory == "/run/gw" && c.stateDirectory == "/var/lib/gw")
    #expect(c.burst == 32 && c.ipsec == nil && !c.allowWeak && !c.lowSPIs && c.fragments == .before && c.metrics == nil)
    #expect(c.numa == .local && c.espPadding == .strict)
    #expect(c.portlessFragments == .auto && c.pathMTUExpiry == 600)
    #expect(c.sourceCheck == .auto && c.sourceChecks == [.auto])
  }

  static let port = "ports: [{name: a, device: d}]\n"

  /// What is wrong, and the error in full.
  static let refused: [(String, String)] = [
    ("", "gateway.yaml: empty: expected at least 'ports'"),
    ("idle: poll", "gateway.yaml:1:1: 'ports' is missing: expected a list of at least one port"),
    ("ports: []", "gateway.yaml:1:8: ports: expected at least one port"),
    (port + "prots: 1", "gateway.yaml:2:1: unknown key 'prots'; did you mean 'ports'?"),
    (port + "on_ike_exit: keep", "gateway.yaml:2:1: unknown key 'on_ike_exit'; did you mean 'on-ike-exit'?"),
    (port + "hugepages: 1", "gateway.yaml:2:12: hugepages: expected true or false, found '1'"),
    (port + "burst: 31", "gateway.yaml:2:8: burst: expected a number from 32 to 256 (packets), found '31'"),
    (
      port + "burst: \"64\"",
      "gateway.yaml:2:8: burst: expected a number from 32 to 256 (packets), found the string \"64\""
    ),
    (port + "idle: polling", "gateway.yaml:2:7: idle: expected poll or sleep, found 'polling'; did you mean 'poll'?"),
    (port + "esp-padding: zero", "gateway.yaml:2:14: esp-padding: expected strict or any, found 'zero'"),
    (
      port + "on-ike-exit: hold -1",
      "gateway.yaml:2:14: on-ike-exit: expected 'hold SECONDS' with 1 to 86400 seconds, found 'hold -1'"
    ),
    (
      port + "source-check: stric",
      "gateway.yaml:2:15: source-check: expected auto or strict or loose or off, found 'stric'; did you mean 'strict'?"
    ),
    (
      "ports: [{name: a, device: d, source-check: on}]",
      "gateway.yaml:1:44: ports[0].source-check: expected auto or strict or loose or off, found 'on'"
    ),
    (port + "workers: [1, 1]", "gateway.yaml:2:14: workers[1]: core 1 is named twice"),
    (port + "run-dir: gw", "gateway.yaml:2:10: run-dir: expected an absolute path, found 'gw'"),
    (
      port + "metrics: {listen: localhost}",
      "gateway.yaml:2:19: metrics.listen: expected an address and port, as in \"127.0.0.1:9100\" or \"[::1]:9100\", "
        + "found 'localhost'"
    ),
    (
      port + "limits: {sas: many}", "gateway.yaml:2:15: limits.sas: expected a number from 16 to 16777216, found 'many'"
    ),
    (
      "ports: [{name: a, device: d}, {name: b, device: e, mtu: big}]",
      "gateway.yaml:1:57: ports[1].mtu: expected a number from 68 to 9600 (bytes), found 'big'"
    ),
    (
      "ports: [{name: a, device: d}, {name: a, device: e}]",
      "gateway.yaml:1:31: ports[1]: a port named 'a' is there already"
    ),
    (
      "ports: [{name: a, device: d}, {name: b, device: d}]",
      "gateway.yaml:1:31: ports[1]: the device 'd' is used by another port already"
    ),
    ("ports: [{name: a}]", "gateway.yaml:1:9: ports[0]: 'device' is missing: expected a PCI address or a vdev"),
    (
      "ports: [{name: a/b, device: d}]",
      "gateway.yaml:1:16: ports[0].name: expected an interface name of 1 to 15 characters without blanks, '/' and ':', "
        + "found 'a/b'"
    ),
    (
      "ports: [{name: a, device: d, addresses: [192.0.2.1]}]",
      "gateway.yaml:1:42: ports[0].addresses[0]: expected an address with its prefix length, as in 192.0.2.1/24, "
        + "found '192.0.2.1'"
    ),
    (
      "ports: [{name: a, device: d, addresses: [192.0.2.1/33]}]",
      "gateway.yaml:1:42: ports[0].addresses[0]: expected an address with its prefix length, as in 192.0.2.1/24, "
        + "found '192.0.2.1/33'"
    ),
    (
      "ports:\n- {name: a, device: d, addresses: [192.0.2.1/24]}\n- {name: b, device: e, addresses: [192.0.2.1/25]}",
      "gateway.yaml:3:3: ports[1]: the address 192.0.2.1 is on port 'a' already"
    ),
    ("ports: [{name: a, name: b, device: d}]", "gateway.yaml:1:10: the key 'name' is there twice"),
    (port + "ports: []", "gateway.yaml:1:1: the key 'ports' is there twice"),
    (
      port + "routes: [{to: 10.0.0.0/8, via: 2001:db8::1}]",
      "gateway.yaml:2:10: routes[0]: 'to' (10.0.0.0/8) and 'via' (2001:db8::1) differ in family"
    ),
    (
      port + "routes: [{to: 10.0.0.1/8, via: 192.0.2.1}]",
      "gateway.yaml:2:15: routes[0].to: '10.0.0.1/8' has bits set after its length; did you mean 10.0.0.0/8?"
    ),
    (
      port + "routes: [{to: 10.0.0.0/8}]",
      "gateway.yaml:2:10: routes[0]: expected 'via' (an address) or 'port' (a port's name)"
    ),
    (
      port + "neighbors: [{port: wan, address: 192.0.2.1, mac: \"02:00:00:00:00:01\"}]",
      "gateway.yaml:2:20: neighbors[0].port: there is no port 'wan'; the ports are a"
    ),
    (
      port + "neighbors: [{port: a, address: 192.0.2.1, mac: \"01:00:00:00:00:01\"}]",
      "gateway.yaml:2:48: neighbors[0].mac: 01:00:00:00:00:01 is not the address of one station"
    ),
    ("ports: {name: a}", "gateway.yaml:1:8: ports: expected a list of ports, found a mapping"),
    ("- ports", "gateway.yaml:1:1: expected a mapping with the keys"),
    ("ports: [", "gateway.yaml:2:1: while parsing a flow node: did not find expected node content"),
    ("ports: *a", "gateway.yaml:1:8: found undefined alias"),
  ]

  @Test(arguments: refused) func refuses(_ yaml: String, _ message: String) {
    let error = #expect(throws: ConfigurationError.self) { try GatewayConfiguration(yaml: yaml) }
    let text = error.map(\.description) ?? ""
    #expect(text == message || text.hasPrefix(message + " "))
  }

  @Test func missingFile() {
    let error = #expect(throws: ConfigurationError.self) { try GatewayConfiguration(contentsOf: "/nonexistent/g.yaml") }
    #expect(error?.description == "/nonexistent/g.yaml: cannot read: No such file or directory")
    let folder = #expect(throws: ConfigurationError.self) { try GatewayConfiguration(contentsOf: "/tmp") }
    #expect(folder?.description == "/tmp: cannot read: Is a directory")
    let endless = #expect(throws: ConfigurationError.self) { try GatewayConfiguration(contentsOf: "/dev/zero") }
    #expect(endless?.description == "/dev/zero: cannot read: file too large")
  }

  @Test func deepNestingIsRefused() {
    for text in [String(repeating: "[", count: 200_000), String(repeating: "- ", count: 100_000)] {
      #expect(throws: ConfigurationError.self) { try GatewayConfiguration(yaml: text) }
    }
  }

  static let vocabulary = ["[", "]", "{", "}", ": ", "- ", "\"", "&a", "*a", "!!int", "\n", "|", "<<: "]

  @Test func mutationsNeverTrap() {
    var mutator = Mutator()
    for _ in 0..<mutator.rounds {
      let text = mutator.mutate(Self.whole, vocabulary: Self.vocabulary)
      _ = try? GatewayConfiguration(yaml: text)
    }
  }
}
