import DPDK
import DataPlane
import Foundation
import Routing
import Wire

extension EALConfiguration {
  /// EAL for a bench: with what this process alone uses, and hugepages where so many are free.
  static func bench(workers: [Int], hugepages: Int = 128) -> EALConfiguration {
    var configuration = EALConfiguration(workers: workers)
    configuration.hugepages = Hugepages.free >= hugepages
    configuration.memory = 512
    configuration.filePrefix = "gwbench-\(getpid())"
    return configuration
  }
}

extension RoutingTable {
  /// The two ports with their addresses, and `prefixes` behind the next hop of `Plan`.
  func setUp(_ dataPlane: DataPlane, prefixes: [String]) throws {
    let hop = IPAddress(Plan.nextHop)!
    let addresses = [[LocalAddress("192.168.0.254/24")!], [LocalAddress(Plan.local + "/24")!]]
    for (index, port) in dataPlane.ports.enumerated() {
      try set(Interface(port: UInt16(index), name: "port\(index)", mac: port.macAddress, addresses: addresses[index]))
    }
    try setStaticNeighbor(NeighborKey(port: 1, address: hop), mac: Plan.peerMAC)
    for prefix in prefixes { try add(Route(IPPrefix(prefix)!, .via(hop, port: 1))) }
    dataPlane.shared.pointee.routingGeneration.store(1, ordering: .releasing)
  }
}

extension DataPlane {
  /// How many packets were dropped for which reasons.
  var allDrops: [(reason: DropReason, count: UInt64)] {
    DropReason.allCases.map { ($0, drops($0)) }.filter { $0.count > 0 }
  }

  /// For those who read.
  var dropsText: String { allDrops.map { "\($0.reason) \($0.count)" }.joined(separator: ", ") }
}
