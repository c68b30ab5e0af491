import CDPDK
import DPDK
import Foundation

@testable import DataPlane

/// EAL of the test process and what gateways in it share: one device that is never polled, pools, the host path's rings.
enum TestEAL {
  struct Shared {
    let eal: EAL
    let configuration: DataPlaneConfiguration
    let port: EthernetPort
    let pools: BufferPools
    let host: HostPath
    let plan: QueuePlan
    let hostRing: MbufRing
    /// For more frames than a port's buffer holds.
    let sentRing: MbufRing
  }

  static let mtu = 9000
  static let shared: Result<Shared, any Error> = Result {
    var settings = EALConfiguration(workers: Array(CPUSet.allowed.cores.prefix(1)))
    settings.hugepages = false
    settings.memory = 512
    settings.filePrefix = "dataplane-tests-\(getpid())"
    let eal = try EAL(settings)
    atexit {
      unlink("/var/run/dpdk/dataplane-tests-\(getpid())/dpdk_telemetry.v2")
      rmdir("/var/run/dpdk/dataplane-tests-\(getpid())")
    }
    var configuration = DataPlaneConfiguration(
      ports: ["wan", "lan"].map {
        DataPlaneConfiguration.Port(name: $0, device: "net_ring0", hasHost: false, mtu: mtu)
      }, counterSlots: 4096)
    configuration.flows = 1024
    configuration.reassemblies = 64
    let pools = BufferPools(configuration, workers: 1)
    var device = PortConfiguration(queues: 1)
    device.mtu = mtu
    let port = try EthernetPort(PortDevice("net_ring0"), device) { try pools.pool(socket: $0) }
    // Two ports by one device, as nothing is received or sent by it.
    let plan = QueuePlan(ports: [port, port], workers: 1)
    let host = try HostPath(configuration, ports: [port, port], plan: plan, workers: 2, pools: pools)
    let ring = try MbufRing(name: "test-host", capacity: 1023, mode: [])
    let sent = try MbufRing(name: "test-sent", capacity: 1023, mode: [])
    return Shared(
      eal: eal, configuration: configuration, port: port, pools: pools, host: host, plan: plan, hostRing: ring,
      sentRing: sent)
  }
}
