import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Synchronization
import Wire

/// Packets out by their adjacency: MTU, Ethernet header, the port's buffer. Buffers are flushed when full and at the end
/// of each round.
enum TransmitStage {
  @inline(never)
  static func run(_ w: WorkerPointer) {
    let list = w.pointee.transmit
    w.pointee.transmit.count = 0
    var i = 0
    while i < list.count {
      let index = list[i].pointee.adjacency
      let adjacency = w.pointee.adjacencies.adjacency(at: index)
      if adjacency.pointee.kind == .forward && adjacency.pointee.state == .reachable {
        i = sendRun(w, list, from: i, adjacency, index)
      } else {
        ExceptionStage.run(w, list[i])
        i &+= 1
      }
    }
    w.mark(.transmit)
  }

  /// Neighbours with one next hop, which is known. Returns where they end.
  @inline(__always)
  private static func sendRun(
    _ w: WorkerPointer, _ list: PacketList, from first: Int, _ adjacency: UnsafePointer<Adjacency>, _ index: UInt32
  ) -> Int {
    let mtu = Int32(truncatingIfNeeded: adjacency.pointee.mtu)
    let port = w.pointee.ports + Int(adjacency.pointee.port)
    let tx = port.pointee.tx
    var (waiting, bytes) = (port.pointee.txCount, port.pointee.txBytes)
    var i = first
    while i < list.count, list[i].pointee.adjacency == index {
      let packet = list[i]
      i &+= 1
      let length = packet.pointee.length
      guard length <= mtu else {
        // Its pieces, or an answer, may go by the same port.
        (port.pointee.txCount, port.pointee.txBytes) = (waiting, bytes)
        TooBig.atTransmit(w, packet, adjacency)
        (waiting, bytes) = (port.pointee.txCount, port.pointee.txBytes)
        continue
      }
      tx[waiting] = frame(packet, length: length, adjacency)
      bytes &+= Int(length) &+ 14
      waiting &+= 1
      if waiting == Worker.txCapacity {
        (port.pointee.txCount, port.pointee.txBytes) = (waiting, bytes)
        flush(w, port: Int(adjacency.pointee.port))
        (waiting, bytes) = (0, 0)
      }
    }
    (port.pointee.txCount, port.pointee.txBytes) = (waiting, bytes)
    return i
  }

  /// The packet's buffer, an Ethernet frame now.
  @inline(__always)
  static func frame(_ packet: PacketPointer, length: Int32, _ adjacency: UnsafePointer<Adjacency>) -> Mbuf {
    let mbuf = packet.pointee.mbuf
    let frame = packet.pointee.ip - 14
    adjacency.pointee.writeEthernetHeader(to: frame)
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
    mbuf.setLength(Int(length) &+ 14)
    return mbuf
  }

  @inline(__always)
  static func send(_ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>) {
    enqueue(w, frame(packet, length: packet.pointee.length, adjacency), port: Int(adjacency.pointee.port))
  }

  /// A finished frame into its port's buffer.
  @inline(__always)
  static func enqueue(_ w: WorkerPointer, _ mbuf: Mbuf, port: Int) {
    w.pointee.ports[port].tx[w.pointee.ports[port].txCount] = mbuf
    add(w, 1, bytes: Int(mbuf.pointee.pkt_len), port: port)
  }

  /// Frames that were put behind those that wait in the port's buffer.
  @inline(__always)
  static func add(_ w: WorkerPointer, _ frames: Int, bytes: Int, port: Int) {
    let p = w.pointee.ports + port
    p.pointee.txCount &+= frames
    p.pointee.txBytes &+= bytes
    if p.pointee.txCount >= Worker.txCapacity { flush(w, port: port) }
  }

  @inline(__always)
  static func flushAll(_ w: WorkerPointer) {
    var port = 0
    while port < w.pointee.portCount {
      if w.pointee.ports[port].txCount > 0 { flush(w, port: port) }
      port &+= 1
    }
  }

  @inline(never)
  static func flush(_ w: WorkerPointer, port: Int) {
    let p = w.pointee.ports + port
    let count = p.pointee.txCount
    var bytes = p.pointee.txBytes
    (p.pointee.txCount, p.pointee.txBytes) = (0, 0)
    var sent = 0
    if p.pointee.hasTx {
      sent = Int(cdpdk_tx_burst(p.pointee.id, p.pointee.txQueue, p.pointee.tx, UInt16(count)))
      // A full ring empties in microseconds: a few tries cost less than the packets.
      var tries = 0
      while sent < count && tries < 16 {
        rte_pause()
        sent &+= Int(
          cdpdk_tx_burst(p.pointee.id, p.pointee.txQueue, p.pointee.tx + sent, UInt16(count &- sent)))
        tries &+= 1
      }
    } else if let ring = p.pointee.handoff {
      sent = Int(cdpdk_ring_enqueue(ring, p.pointee.tx, UInt32(count)))
    }
    if sent < count { refused(w, p, from: sent, to: count, bytes: &bytes) }
    // Who hands off does not count: the owner of the queue does.
    if p.pointee.hasTx {
      p.pointee.count(.txPackets, sent)
      p.pointee.count(.txBytes, bytes)
    }
  }

  @inline(never)
  private static func refused(
    _ w: WorkerPointer, _ p: UnsafeMutablePointer<WorkerPort>, from sent: Int, to count: Int, bytes: inout Int
  ) {
    bytes &-= byteCount(p, from: sent, to: count)
    let reason: DropReason = p.pointee.hasTx ? .transmitFull : p.pointee.handoff != nil ? .handoffFull : .portDown
    (w.pointee.drops + Int(reason.rawValue)).add(count &- sent)
    cdpdk_free_bulk(p.pointee.tx + sent, UInt32(count &- sent))
  }

  /// Of waiting frames.
  private static func byteCount(_ p: UnsafeMutablePointer<WorkerPort>, from first: Int, to end: Int) -> Int {
    var bytes = 0
    var i = first
    while i < end {
      bytes &+= Int(p.pointee.tx[i].unsafelyUnwrapped.pointee.pkt_len)
      i &+= 1
    }
    return bytes
  }

  /// Frames that workers without a queue of their own left here.
  @inline(__always)
  static func drainHandoffs(_ w: WorkerPointer) -> Int {
    var total = 0
    var port = 0
    while port < w.pointee.portCount {
      let p = w.pointee.ports + port
      if p.pointee.hasTx, let ring = p.pointee.handoff { total &+= drain(w, ring, port: port) }
      port &+= 1
    }
    return total
  }

  @inline(never)
  private static func drain(_ w: WorkerPointer, _ ring: OpaquePointer, port: Int) -> Int {
    let p = w.pointee.ports + port
    if p.pointee.txCount > 0 { flush(w, port: port) }
    let count = Int(cdpdk_ring_dequeue(ring, p.pointee.tx, UInt32(Worker.txCapacity)))
    (p.pointee.txCount, p.pointee.txBytes) = (count, byteCount(p, from: 0, to: count))
    if count > 0 { flush(w, port: port) }
    return count
  }
}
