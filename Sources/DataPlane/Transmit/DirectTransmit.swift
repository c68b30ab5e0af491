import CLayout
import DPDK
import IPsec
import Routing

/// The next hop of the packet before, if it is known: frames for it are put at once behind those that wait in their port's
/// buffer, which learns of them when something else may be put there. Packets that must wait for `TransmitStage` are not
/// overtaken. What a policy let in is counted once for neighbours of one policy.
struct DirectTransmit {
  /// Of `adjacency`; -1: there is none.
  private var index = -1
  private var adjacency: UnsafePointer<Adjacency>?
  /// The next frame's place.
  private var place: UnsafeMutablePointer<Mbuf?>?
  /// Of the packets, without their Ethernet headers.
  private var bytes = 0
  /// The address of the policy that the packets since these were let in by; 0: none.
  private var policy: UInt = 0
  private var policyPlace: UnsafeMutablePointer<Mbuf?>?
  private var policyBytes = 0

  @inline(__always)
  init() {}

  /// False: nothing was done.
  @inline(__always)
  mutating func sends(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: UnsafeMutablePointer<gw_flow_entry>
  ) -> Bool {
    let next = flow.pointee.adjacency
    guard Int(next) == index || change(w, to: next) else { return false }
    let (adjacency, place) = (adjacency.unsafelyUnwrapped, place.unsafelyUnwrapped)
    let length = packet.pointee.length
    guard length <= Int32(truncatingIfNeeded: adjacency.pointee.mtu) else { return false }
    let inbound = UInt(bitPattern: flow.pointee.policy)
    if inbound != policy { changePolicy(w, to: inbound) }
    place.pointee = TransmitStage.frame(packet, length: length, adjacency)
    self.place = place + 1
    bytes &+= Int(length)
    return true
  }

  @inline(never)
  private mutating func change(_ w: WorkerPointer, to next: UInt32) -> Bool {
    settle(w)
    let found = w.pointee.adjacencies.adjacency(at: next)
    guard w.pointee.transmit.count == 0, found.pointee.kind == .forward, found.pointee.state == .reachable else {
      return false
    }
    let port = w.pointee.ports + Int(found.pointee.port)
    (index, adjacency, place) = (Int(next), found, port.pointee.tx + port.pointee.txCount)
    policyPlace = place
    return true
  }

  @inline(never)
  private mutating func changePolicy(_ w: WorkerPointer, to next: UInt) {
    countPolicy(w)
    (policy, policyPlace, policyBytes) = (next, place, bytes)
  }

  @inline(__always)
  private func countPolicy(_ w: WorkerPointer) {
    guard let policy = UnsafeMutablePointer<gw_policy>(bitPattern: policy), let place, let policyPlace else { return }
    w.pointee.counters.add(
      slot: policy.pointee.slot, packets: UInt64(truncatingIfNeeded: place - policyPlace),
      bytes: UInt64(truncatingIfNeeded: bytes &- policyBytes), now: w.pointee.now)
  }

  /// Gives the port what it was sent. To be done before anything else may be sent, and at the end.
  @inline(__always)
  mutating func settle(_ w: WorkerPointer) {
    if index >= 0 { close(w) }
  }

  @inline(never)
  private mutating func close(_ w: WorkerPointer) {
    guard let adjacency, let place else { return }
    countPolicy(w)
    let port = Int(adjacency.pointee.port)
    let frames = place - (w.pointee.ports[port].tx + w.pointee.ports[port].txCount)
    TransmitStage.add(w, frames, bytes: bytes &+ frames &* 14, port: port)
    self = DirectTransmit()
  }
}
