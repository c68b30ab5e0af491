import CDPDK
import Foundation

/// A pool of packet buffers on one NUMA node. Made and freed by the control thread; any thread takes and gives back.
///
/// Every mbuf is two cache lines of `cdpdk_mbuf`, then `privateSize` bytes for the data path, then the buffer:
/// 128 bytes of headroom (fixed when the drivers were built; tunnel headers need at most 40 + 8 + 8 + 16) and the frame.
public final class Mempool: @unchecked Sendable {
  /// Bytes of each mbuf's private area, a multiple of a cache line.
  public static let privateSize = 128
  public static var headroom: Int { Int(RTE_PKTMBUF_HEADROOM) }
  /// Per lcore; at most a third of what the smallest pool holds.
  public static let cacheSize = 256

  public let base: OpaquePointer
  public let name: String
  public let capacity: Int
  /// Bytes of a buffer with its headroom.
  public let dataRoom: Int
  public let socket: Int

  /// What the largest buffer that DPDK can describe holds with its headroom.
  public static var largestRoom: Int { Int(UInt16.max) }

  /// `name`: at most 25 bytes, unique. `capacity` is best one less than a power of two.
  public convenience init(name: String, capacity: Int, mtu: Int = 1500, socket: Int = -1) throws(MempoolError) {
    try self.init(
      name: name, capacity: capacity, dataRoom: try Self.dataRoom(mtu: mtu), cache: Self.cacheSize, socket: socket)
  }

  /// A few of the largest buffers; no lcore keeps any back.
  public convenience init(largest name: String, capacity: Int, socket: Int = -1) throws(MempoolError) {
    try self.init(name: name, capacity: capacity, dataRoom: Self.largestRoom, cache: 0, socket: socket)
  }

  private init(name: String, capacity: Int, dataRoom: Int, cache: Int, socket: Int) throws(MempoolError) {
    guard capacity > 0, capacity <= Int(UInt32.max) / 2 else { throw .invalid("a pool of \(capacity) buffers") }
    let made = cdpdk_pool_create(
      name, UInt32(capacity), UInt32(min(cache, capacity * 2 / 3)), UInt16(Self.privateSize), UInt16(dataRoom),
      Int32(socket))
    guard let made else {
      let code = cdpdk_errno()
      if code == EEXIST { throw .invalid("a pool named \(name) exists") }
      if code == ENAMETOOLONG { throw .invalid("the pool name \(name) is too long") }
      throw .noMemory(name: name, megabytes: Self.megabytes(capacity: capacity, room: dataRoom), socket: socket)
    }
    base = made
    self.name = name
    self.capacity = capacity
    self.dataRoom = dataRoom
    self.socket = socket
  }

  /// Buffers for a frame of `mtu` and what ESP adds behind it, rounded up to what NICs count receive buffers in.
  static func dataRoom(mtu: Int) throws(MempoolError) -> Int {
    guard (68...9700).contains(mtu) else { throw .invalid("mtu: \(mtu); a port has 68 to 9700") }
    let frame = mtu + 14 + 8 + 4
    let trailer = 64 + 255 + 2
    return headroom + max(2048, (frame + trailer + 1023) & ~1023)
  }

  /// Buffers that cannot run out: all descriptors of all queues, a burst and a cache for each worker, `reserve` more.
  public static func capacity(
    ports: Int, queues: Int, descriptors: Int, workers: Int, reserve: Int = 1024
  ) -> Int {
    let needed = ports * queues * descriptors + (workers + 1) * (cacheSize * 3 / 2 + 4 * 32) + reserve
    var power = 1024
    while power - 1 < needed { power *= 2 }
    return power - 1
  }

  /// What a pool takes, rounded up.
  public static func megabytes(capacity: Int, mtu: Int) -> Int {
    megabytes(capacity: capacity, room: (try? dataRoom(mtu: mtu)) ?? 2176)
  }

  private static func megabytes(capacity: Int, room: Int) -> Int {
    let element = MemoryLayout<cdpdk_mbuf>.size + privateSize + room + 64 + 64
    return capacity * element / 1_048_576 + 1
  }

  /// Caches of workers included.
  public var available: Int { Int(rte_mempool_avail_count(base)) }
  public var inUse: Int { Int(rte_mempool_in_use_count(base)) }

  /// Nil when the pool is empty.
  public func allocate() -> Mbuf? { cdpdk_alloc(base) }

  /// The caller has seen that nothing is in use.
  public func free() { rte_mempool_free(base) }
}
