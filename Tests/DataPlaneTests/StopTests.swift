import CDPDK
import DPDK
import Engines
import Foundation
import IPsec
import Routing
import Synchronization
import Testing

@testable import DataPlane

/// Not the worker's loop, but one that is told apart when to leave.
private let mayLeave = Atomic(false)

extension DataPlaneTests {
  /// A data plane that is stopped while a worker does not leave.
  @Suite(.serialized) struct StopTests {
    @Test func nothingIsClosedUnderAWorker() throws {
      let shared = try TestEAL.shared.get()
      var configuration = DataPlaneConfiguration(
        ports: [DataPlaneConfiguration.Port(name: "stop", device: "net_ring9", hasHost: false, mtu: 1500)],
        counterSlots: 16)
      configuration.flows = 1024
      configuration.name = "stop"
      let security = SecurityDatabase(engine: OpenSSLEngine(), workers: 1, reclaimer: ImmediateReclaimer(), now: 1)
      let routing = RoutingTable(limits: RoutingLimits(), reclaimer: ImmediateReclaimer())
      weak var observed: DataPlane?
      func run() throws {
        let dataPlane = try DataPlane(
          configuration, eal: shared.eal, quiescence: QuiescentState(readers: 1),
          tables: DataPlaneTables(security, routing))
        observed = dataPlane
        mayLeave.store(false, ordering: .relaxed)
        try dataPlane.start { _ in
          while !mayLeave.load(ordering: .relaxed) { rte_pause() }
          return 0
        }
        let id = dataPlane.ports[0].id
        let began = ContinuousClock.now
        #expect(!dataPlane.stop(patience: 0.2))
        #expect(ContinuousClock.now - began < .seconds(5))
        // The port still takes what the worker sends.
        var mbuf: Mbuf? = cdpdk_alloc(dataPlane.bufferPools[0].base)
        #expect(rte_eth_dev_is_valid_port(id) == 1 && cdpdk_tx_burst(id, 0, &mbuf, 1) == 1)
        #expect(!dataPlane.stop(patience: 0))
      }
      try run()
      // Nor is anything freed with the last that holds it.
      let kept = try #require(observed)
      mayLeave.store(true, ordering: .relaxed)
      let id = kept.ports[0].id
      #expect(kept.stop(patience: 10))
      #expect(rte_eth_dev_is_valid_port(id) == 0)
    }
  }
}
