import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// A policy that asks for protection and has no SA: OpenBSD's table of outcomes (ip_spd.c).
enum MissingSA {
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>) {
    switch policy.type {
    case .use:
      passInClear(w, packet)
    case .acquire:
      acquire(w, packet, policy)
      passInClear(w, packet)
    case .require:
      waitForSA(w, packet, policy)
    case .dontacq, .bypass, .deny:
      drop(w, packet, policy, .policyNoSA)
    }
  }

  /// Counts for the policy too, which is a tunnel's.
  private static func drop(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>, _ reason: DropReason
  ) {
    w.pointee.counters.addDrops(slot: policy.pointee.slot, 1)
    w.drop(packet, reason)
  }

  private static func passInClear(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard packet.pointee.origin != .answer else { return w.drop(packet, .answerUnprotected) }
    packet.pointee.policy = nil
    packet.pointee.adjacency = w.adjacencyIndex(of: packet)
    w.pointee.transmit.append(packet)
  }

  /// To the host thread, which gives it back when there is an SA. What was in a tunnel before is not kept: its way here
  /// cannot be checked again later. How many have come since the question is counted in the mark of the question, so
  /// that a flood does not reach the host thread.
  private static func waitForSA(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>
  ) {
    let asked = policy.acquirePendingAtomic.pointee.load(ordering: .relaxed)
    let mayWait = packet.pointee.origin == .clear || packet.pointee.origin == .host
    guard mayWait, asked < SAQueue.packetsPerPolicy, w.pointee.waiting != nil else {
      if asked == 0 { acquire(w, packet, policy) }
      return drop(w, packet, policy, asked < SAQueue.packetsPerPolicy ? .policyNoSA : .saQueueFull)
    }
    if packet.pointee.origin == .clear { restoreTTL(packet) }
    let key = packet.pointee.key
    wait(w, packet, .waitsForSA, policy.pointee.index, orDrop: .saQueueFull)
    // After the packet is in the ring: when the mark is cleared, the host thread looks there.
    guard policy.acquirePendingAtomic.pointee.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue == 0 else {
      return
    }
    ask(w, policy, key)
  }

  /// To the host thread, to wait there for what `kind` and `number` say; `reason`: what it is dropped for if that has no
  /// room.
  static func wait(
    _ w: WorkerPointer, _ packet: PacketPointer, _ kind: PacketNote.Kind, _ number: UInt32, orDrop reason: DropReason
  ) {
    prepareToWait(packet, kind, number)
    var element: Mbuf? = packet.pointee.mbuf
    if let ring = w.pointee.waiting, cdpdk_ring_enqueue(ring, &element, 1) == 1 { return }
    w.drop(packet, reason)
  }

  /// The frame as it came, and a note that says what it waits for.
  private static func prepareToWait(_ packet: PacketPointer, _ kind: PacketNote.Kind, _ number: UInt32) {
    let mbuf = packet.pointee.mbuf
    let frame = packet.pointee.ip - 14
    let type: UInt16 = packet.pointee.version == 4 ? 0x0800 : 0x86dd
    frame.storeBytes(of: type.bigEndian, toByteOffset: 12, as: UInt16.self)
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
    mbuf.setLength(Int(packet.pointee.length) &+ 14)
    mbuf.note.initialize(
      to: PacketNote(
        kind: kind, origin: packet.pointee.origin, version: packet.pointee.version,
        dontFragment: packet.pointee.dontFragment, isSealed: false, port: packet.pointee.port,
        policy: number, nextHopHigh: 0, nextHopLow: 0, destinationHigh: 0, destinationLow: 0))
  }

  /// What `PolicyStage.decrementTTL` took, which will take it again.
  static func restoreTTL(_ packet: PacketPointer) {
    let ip = packet.pointee.ip
    guard packet.pointee.version == 4 else {
      ip.storeBytes(of: UnsafeRawPointer(ip).byte(at: 7) &+ 1, toByteOffset: 7, as: UInt8.self)
      return
    }
    ip.storeBytes(of: UnsafeRawPointer(ip).byte(at: 8) &+ 1, toByteOffset: 8, as: UInt8.self)
    IPv4Header.setChecksum(ip, headerLength: Int(UnsafeRawPointer(ip).byte(at: 0) & 15) &* 4)
  }

  /// One question a policy at a time; the control thread clears the mark when it may be asked again.
  static func acquire(_ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>) {
    let asked = policy.acquirePendingAtomic.pointee.exchange(1, ordering: .relaxed)
    guard asked == 0 else { return }
    ask(w, policy, packet.pointee.key)
  }

  private static func ask(_ w: WorkerPointer, _ policy: UnsafeMutablePointer<gw_policy>, _ key: gw_flow_key) {
    guard !w.pointee.events.push(Event(.acquire, number: policy.pointee.index, key: key)) else { return }
    // Nobody heard it: the next packet asks.
    policy.acquirePendingAtomic.pointee.store(0, ordering: .relaxed)
  }
}
