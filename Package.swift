// swift-tools-version:6.2
import PackageDescription

// SwiftPM cannot parse libdpdk.pc (its Description spans lines), so the include paths stand here.
// Debian's DPDK is built for the architecture's baseline; its inline functions need SSSE3 and up on x86.
#if arch(x86_64)
  let multiarch = "x86_64-linux-gnu"
  let machine = ["-march=corei7"]
#elseif arch(arm64)
  let multiarch = "aarch64-linux-gnu"
  let machine = ["-march=armv8-a+crypto"]
#endif
let dpdkIncludes = ["-I/usr/include/dpdk", "-I/usr/include/\(multiarch)/dpdk"]
let dpdkC: [CSetting] = [.unsafeFlags(dpdkIncludes + machine + ["-O3", "-Wall", "-Wno-address-of-packed-member"])]
let dpdk: [SwiftSetting] = [.unsafeFlags((dpdkIncludes + machine).flatMap { ["-Xcc", $0] })]
let dpdkLibraries: [LinkerSetting] = [
  "rte_eal", "rte_mbuf", "rte_mempool", "rte_ethdev", "rte_ring", "rte_rcu", "rte_net", "rte_ip_frag", "rte_pcapng",
  "rte_bus_vdev", "rte_telemetry", "rte_timer", "rte_kvargs",
].map { .linkedLibrary($0) }

let package = Package(
  name: "gateway",
  dependencies: [
    // Flags, sub-commands, help and shell completion of gwd and gwctl, as Swift's own tools do them.
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // Levels and labels of the daemon's log; the back end writes journald's <N> prefixes.
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    // gateway.yaml: the libyaml binding that keeps line and column for every node.
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    // The control API's HTTP server on a Unix socket; on SwiftNIO, so SO_PEERCRED of each connection is in reach.
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    // Hummingbird's own transport, named because the control API asks its channels for peer credentials.
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    .target(name: "CDPDK", cSettings: dpdkC, linkerSettings: dpdkLibraries),
    .target(name: "COpenSSL", cSettings: [.unsafeFlags(["-O3", "-Wall"])], linkerSettings: [.linkedLibrary("crypto")]),
    .target(name: "CCrypto"),
    .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall"])], linkerSettings: [.linkedLibrary("numa")]),
    .target(name: "Wire"),
    .target(name: "Engines", dependencies: ["CCrypto", "COpenSSL"]),
    .target(name: "IPsec", dependencies: ["Wire", "Engines"]),

    .testTarget(name: "WireTests", dependencies: ["Wire"]),
  ],
  swiftLanguageModes: [.v6]
)
