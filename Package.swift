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

let plainC: [CSetting] = [.unsafeFlags(["-O3", "-Wall"])]

let package = Package(
  name: "gateway",
  dependencies: [
    // Flags, sub-commands, help and shell completion of gwd and gwctl, as Swift's own tools do them.
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // Levels and labels of the daemon's log; the back end writes journald's <N> prefixes.
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    // gateway.yaml: the libyaml binding that keeps line and column for every node.
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    // Perf only: latencies in histograms that lose nothing at the far end.
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
  ],
  targets: [
    .target(name: "CDPDK", cSettings: dpdkC, linkerSettings: dpdkLibraries),
    .target(name: "COpenSSL", cSettings: plainC, linkerSettings: [.linkedLibrary("crypto")]),
    .target(name: "CIPsecMB", cSettings: plainC, linkerSettings: [.linkedLibrary("IPSec_MB")]),
    // IPComp: whole buffers, no state between packets, and twice as fast as zlib at packet sizes.
    .target(name: "CDeflate", cSettings: plainC, linkerSettings: [.linkedLibrary("deflate")]),
    .target(name: "CCrypto", cSettings: plainC),
    .target(name: "CLayout", dependencies: ["CCrypto"], cSettings: plainC),
    .target(name: "CLinux", cSettings: plainC, linkerSettings: [.linkedLibrary("numa")]),
    // free() that wipes, in the programs that handle keys.
    .target(name: "CWipe", cSettings: [.unsafeFlags(["-O2", "-Wall", "-fno-builtin"])]),
    // gwctl's HTTP client: libcurl speaks to Unix sockets and streams.
    .target(name: "CCurl", cSettings: plainC, linkerSettings: [.linkedLibrary("curl")]),

    // Threads that are joined, and what ends their waits.
    .target(name: "Threads", dependencies: ["CLinux"]),
    // What the kernel's files say of cores, memory and NICs.
    .target(name: "Machine"),
    .target(name: "Wire"),
    .target(name: "Engines", dependencies: ["CCrypto", "COpenSSL", "CIPsecMB"]),
    .target(name: "IPsec", dependencies: ["CDeflate", "CLayout", "Wire", "Engines"]),
    .target(name: "Routing", dependencies: ["Wire", "IPsec"]),
    .target(
      name: "DPDK", dependencies: ["CDPDK", "CLinux", "Machine", "Threads", "Wire", "IPsec"], swiftSettings: dpdk),
    .target(
      name: "DataPlane",
      dependencies: [
        "CDPDK", "CLayout", "CLinux", "COpenSSL", "Threads", "Wire", "Engines", "IPsec", "Routing", "DPDK",
      ],
      swiftSettings: dpdk),
    .target(name: "KeyManagement", dependencies: ["CLinux", "Wire", "Engines", "IPsec"]),
    .target(
      name: "ConfigurationFiles", dependencies: ["Wire", "Engines", "IPsec", .product(name: "Yams", package: "Yams")],
      path: "Sources/ConfigurationFiles"),
    // Key daemons as programs that are told what to do: charon over VICI, iked over ikectl.
    .target(
      name: "IKEControl",
      dependencies: ["CLinux", "COpenSSL", "Threads", "Wire", "Engines", "IPsec", "ConfigurationFiles"]),
    .target(
      name: "ControlAPI", dependencies: ["CCurl", "Wire", "Engines", "IPsec", "ConfigurationFiles", "IKEControl"]),
    .target(
      name: "ControlPlane",
      dependencies: [
        "CDPDK", "CLayout", "CLinux", "COpenSSL", "Wire", "Engines", "IPsec", "Routing", "DPDK", "DataPlane",
        "KeyManagement", "ConfigurationFiles", "IKEControl", "ControlAPI",
        "Machine", "Threads", .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: dpdk),
    .executableTarget(
      name: "gwd",
      dependencies: [
        "CWipe", "CLinux", "ControlAPI", "ControlPlane",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: dpdk),
    .executableTarget(
      name: "gwctl",
      dependencies: [
        "CWipe", "CLinux", "Machine", "KeyManagement", "ControlAPI", "ConfigurationFiles", "IKEControl",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // Perf's benchmark of the data path.
    .executableTarget(
      name: "gwbench",
      dependencies: [
        "CDPDK", "CLayout", "CCrypto", "Wire", "Engines", "IPsec", "Routing", "DPDK", "DataPlane",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ], path: "Perf/Bench", swiftSettings: dpdk),

    // Random numbers of tests, from a printed seed.
    .target(name: "SeededRandom", path: "Tests/SeededRandom"),
    // A root folder of another machine.
    .target(name: "MachineTesting", dependencies: ["Machine"], path: "Tests/MachineTesting"),
    // What another user does, for the tests of whom is trusted.
    .target(name: "StrangerTesting", path: "Tests/StrangerTesting"),
    .testTarget(name: "MachineTests", dependencies: ["Machine", "MachineTesting"]),
    .testTarget(name: "WireTests", dependencies: ["SeededRandom", "Wire"]),
    .testTarget(name: "EnginesTests", dependencies: ["SeededRandom", "Engines"]),
    .testTarget(name: "IPsecTests", dependencies: ["SeededRandom", "IPsec"]),
    .testTarget(name: "RoutingTests", dependencies: ["SeededRandom", "Routing"]),
    .testTarget(name: "DPDKTests", dependencies: ["Machine", "SeededRandom", "DPDK"], swiftSettings: dpdk),
    .testTarget(
      name: "DataPlaneTests", dependencies: ["SeededRandom", "DataPlane"], exclude: ["Vectors"], swiftSettings: dpdk),
    .testTarget(
      name: "KeyManagementTests",
      dependencies: ["SeededRandom", "StrangerTesting", "KeyManagement", "CLinux", "Engines", "IPsec", "Wire"]),
    .testTarget(name: "ConfigurationFilesTests", dependencies: ["ConfigurationFiles"], exclude: ["Golden"]),
    .testTarget(
      name: "IKEControlTests",
      dependencies: ["StrangerTesting", "IKEControl", "ConfigurationFiles", "Engines", "IPsec", "Threads", "Wire"]),
    // A gateway without packets, for the tests of the API's server, client and tools.
    .target(
      name: "ControlAPITesting", dependencies: ["ControlAPI", "IKEControl", "Wire", "Engines", "IPsec"],
      path: "Tests/ControlAPITesting"),
    .testTarget(name: "ControlAPITests", dependencies: ["ControlAPI", "ControlAPITesting"]),
    .testTarget(
      name: "ControlPlaneTests",
      dependencies: ["KeyManagement", "SeededRandom", "Threads", "ControlPlane", "ControlAPITesting"],
      swiftSettings: dpdk),
    .testTarget(
      name: "gwctlTests",
      dependencies: [
        "gwctl", "gwd", "ControlAPI", "ControlPlane", "ControlAPITesting", "ConfigurationFiles", "IKEControl",
        "Machine",
        "MachineTesting",
      ],
      swiftSettings: dpdk),
  ],
  swiftLanguageModes: [.v6]
)

// GW_FUZZ=<libclang_rt.fuzzer_no_main> (Tests/Fuzz/run sets it): the fuzz program instead of the tests, and every module of
// ours instrumented for it.
if let fuzzer = Context.environment["GW_FUZZ"], !fuzzer.isEmpty {
  package.targets.removeAll {
    $0.type == .test || ["ControlAPITesting", "MachineTesting", "StrangerTesting"].contains($0.name)
  }
  for target in package.targets {
    target.swiftSettings =
      (target.swiftSettings ?? []) + [
        .unsafeFlags(["-sanitize=fuzzer", "-enable-testing"]), .define("GW_GUARD_PAGES"),
      ]
  }
  package.targets += [
    .target(name: "CFuzzer", path: "Tests/Fuzz/CFuzzer"),
    .executableTarget(
      name: "gwfuzz",
      dependencies: [
        "CFuzzer", "CDPDK", "CLayout", "COpenSSL", "Wire", "Engines", "IPsec", "Routing", "DPDK", "DataPlane",
        "KeyManagement", "ConfigurationFiles", "IKEControl", "SeededRandom",
      ],
      path: "Tests",
      sources: ["Fuzz/Sources"] + ["TestEAL", "TestGateway", "Pair", "Packets"].map { "DataPlaneTests/\($0).swift" },
      swiftSettings: dpdk + [.unsafeFlags(["-parse-as-library", "-sanitize=fuzzer"])],
      linkerSettings: [.unsafeFlags([fuzzer]), .linkedLibrary("stdc++")]),
  ]
}

// GW_ONLY=TargetTests[,…] leaves only those targets and what they need: the sanitizers run on those that need no DPDK.
if let only = Context.environment["GW_ONLY"], !only.isEmpty {
  var wanted = Set(only.split(separator: ",").map(String.init))
  var grew = true
  while grew {
    grew = false
    for target in package.targets where wanted.contains(target.name) {
      for dependency in target.dependencies {
        if case .byNameItem(let name, _) = dependency, wanted.insert(name).inserted { grew = true }
      }
    }
  }
  package.targets = package.targets.filter { wanted.contains($0.name) }
}
