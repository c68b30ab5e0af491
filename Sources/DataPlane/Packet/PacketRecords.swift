import DPDK

/// The records of the packets that a worker has in hand, and with them the bound of all its arrays: records are given out
/// here alone, and there are `capacity` of them. A list holds a record once, a job and what belongs to it are one packet's
/// of a list, and a port's buffer has room for every record's frame behind those that wait. So whatever is an entry for a
/// packet has its place in an array of `capacity`, and whoever gets no record drops what it is for, or ends the round.
struct PacketRecords {
  let base: PacketPointer
  let capacity: Int
  private(set) var count = 0

  init(base: PacketPointer, capacity: Int) {
    self.base = base
    self.capacity = capacity
  }

  @inline(__always)
  func hasRoom(_ wanted: Int) -> Bool { wanted <= capacity &- count }

  /// The first of `wanted` records in a row; nil: there are fewer, and none was taken.
  @inline(__always)
  mutating func take(_ wanted: Int) -> PacketPointer? {
    guard hasRoom(wanted) else { return nil }
    let first = base + count
    count &+= wanted
    return first
  }

  /// All but the first `kept` are free: no list, job or burst refers to them.
  @inline(__always)
  mutating func release(keeping kept: Int) {
    assert(kept <= count)
    count = kept
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// A fresh record; nil: none is free, and the buffer stays the caller's.
  @inline(__always)
  func nextPacket(_ mbuf: Mbuf, port: Int, origin: PacketOrigin) -> PacketPointer? {
    guard let packet = pointee.records.take(1) else { return nil }
    packet.begin(mbuf)
    packet.header = PacketHeader(port: port, origin: origin)
    packet.marks = 0
    return packet
  }

  /// A buffer that comes to the worker when no record is free.
  @inline(never)
  func refuse(_ mbuf: Mbuf) {
    (pointee.drops + Int(DropReason.noRecord.rawValue)).increment()
    free(mbuf)
  }
}
