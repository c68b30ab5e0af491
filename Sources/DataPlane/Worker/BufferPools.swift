import CDPDK
import DPDK

/// Packet buffers: one pool for each NUMA node that has a port, and two small ones: for packets that need more room than
/// those have, and for datagrams larger than any link, put together or made here.
/// Control thread makes them; workers take and give back.
final class BufferPools: @unchecked Sendable {
  private let configuration: DataPlaneConfiguration
  private let workers: Int
  private var pools: [Int: Mempool] = [:]
  private var jumboPool: Mempool?
  private var largePool: Mempool?

  private static var jumboMTU: Int { 9600 }
  /// What a jumbo buffer holds behind its headroom.
  static var jumboRoom: Int { 10_240 }
  /// Datagrams larger than that are in hand for a burst only, or wait for the kernel.
  private static var largeBuffers: Int { 127 }

  init(_ configuration: DataPlaneConfiguration, workers: Int) {
    self.configuration = configuration
    self.workers = workers
  }

  /// Sized so that no queue of any port can run dry while others are full.
  func pool(socket: Int) throws -> Mempool {
    if let pool = pools[socket] { return pool }
    let capacity = Mempool.capacity(
      ports: configuration.ports.count, queues: 2 * workers, descriptors: 1024, workers: workers,
      reserve: 4096 + workers * FragmentTable.mostBuffers)
    let mtu = configuration.ports.map(\.mtu).max() ?? 1500
    let pool = try Mempool(
      name: "\(configuration.name)-buffers-\(socket)", capacity: capacity, mtu: mtu, socket: socket)
    pools[socket] = pool
    return pool
  }

  func jumbo() throws -> Mempool {
    if let jumboPool { return jumboPool }
    let pool = try Mempool(name: "\(configuration.name)-jumbo", capacity: 1023, mtu: Self.jumboMTU)
    jumboPool = pool
    return pool
  }

  func large() throws -> Mempool {
    if let largePool { return largePool }
    let pool = try Mempool(largest: "\(configuration.name)-large", capacity: Self.largeBuffers)
    largePool = pool
    return pool
  }

  var all: [Mempool] { (pools.values + [jumboPool, largePool].compactMap(\.self)).sorted { $0.name < $1.name } }
}
