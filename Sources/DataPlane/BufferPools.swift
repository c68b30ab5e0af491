import CDPDK
import DPDK

/// Packet buffers: one pool for each NUMA node that has a port, and a small one of buffers for the largest packets.
/// Control thread makes them; workers take and give back.
final class BufferPools: @unchecked Sendable {
  private let configuration: DataPlaneConfiguration
  private let workers: Int
  private var pools: [Int: Mempool] = [:]
  private var jumboPool: Mempool?

  init(_ configuration: DataPlaneConfiguration, workers: Int) {
    self.configuration = configuration
    self.workers = workers
  }

  /// Sized so that no queue of any port can run dry while others are full.
  func pool(socket: Int) throws -> Mempool {
    if let pool = pools[socket] { return pool }
    let capacity = Mempool.capacity(
      ports: configuration.ports.count, queues: 2 * workers, descriptors: 1024, workers: workers, reserve: 4096)
    let mtu = configuration.ports.map(\.mtu).max() ?? 1500
    let pool = try Mempool(
      name: "\(configuration.name)-buffers-\(socket)", capacity: capacity, mtu: mtu, socket: socket)
    pools[socket] = pool
    return pool
  }

  func jumbo() throws -> Mempool {
    if let jumboPool { return jumboPool }
    let pool = try Mempool(name: "\(configuration.name)-jumbo", capacity: 1023, mtu: 9600)
    jumboPool = pool
    return pool
  }

  var all: [Mempool] { (pools.values + (jumboPool.map { [$0] } ?? [])).sorted { $0.name < $1.name } }
}
