import CLayout
import Synchronization

/// An atomic field of a C record that Swift reaches by its offset, which `clayout.h` asserts.
@inlinable @inline(__always)
func atomicField<Value: AtomicRepresentable>(
  _ record: UnsafeMutableRawPointer, _ offset: Int, as type: Value.Type = Value.self
) -> UnsafeMutablePointer<Atomic<Value>> {
  (record + offset).assumingMemoryBound(to: Atomic<Value>.self)
}

/// The fields of an SA that workers write, or that the control thread changes under readers.
extension UnsafeMutablePointer where Pointee == gw_sa {
  public typealias Field<Value: AtomicRepresentable> = UnsafeMutablePointer<Atomic<Value>>

  /// Control stores with release, workers load with acquire: the SA applied after (out) or before (in) this one.
  @inlinable @inline(__always)
  public var nextAtomic: Field<UnsafeMutablePointer<gw_sa>?> { atomicField(self, 120) }
  /// Outbound: the last sequence number given out.
  @inlinable @inline(__always) public var sequenceAtomic: Field<UInt64> { atomicField(self, 192) }
  /// Inbound: the highest sequence number that authenticated.
  @inlinable @inline(__always) public var replayHighestAtomic: Field<UInt64> { atomicField(self, 200) }
  /// Outbound, control writes: below it numbers are taken without a look at `sequenceLimitAtomic`.
  @inlinable @inline(__always) public var carefulFromAtomic: Field<UInt64> { atomicField(self, 200) }
  /// Outbound, control writes: the first number that may not be given out.
  @inlinable @inline(__always) public var sequenceLimitAtomic: Field<UInt64> { atomicField(self, 232) }
  /// Outbound: (FIB generation : 32, adjacency : 32) of the outer destination.
  @inlinable @inline(__always) public var adjacencyAtomic: Field<UInt64> { atomicField(self, 208) }
  @inlinable @inline(__always) public var usedBytesAtomic: Field<UInt64> { atomicField(self, 216) }
  @inlinable @inline(__always) public var usedPacketsAtomic: Field<UInt64> { atomicField(self, 224) }
  /// Inbound UDP encapsulation: (address low : 32, port : 16) last seen elsewhere.
  @inlinable @inline(__always) public var peerAtomic: Field<UInt64> { atomicField(self, 232) }
  /// Bits of `gw_sa_status`.
  @inlinable @inline(__always) public var statusAtomic: Field<UInt32> { atomicField(self, 240) }
  /// Control writes: MTU of the outer path; 0: the port's.
  @inlinable @inline(__always) public var pathMTUAtomic: Field<UInt32> { atomicField(self, 244) }
  /// Outbound: no number of the SA comes to this (RFC 4303 3.3.3). What is not numbered on the wire has no end.
  public var sequenceEnd: UInt64 {
    guard pointee.sa_protocol == SAProtocol.esp.rawValue || pointee.sa_protocol == SAProtocol.ah.rawValue else {
      return .max
    }
    return pointee.flags & GW_SA_ESN.rawValue != 0 ? SAFactory.extendedSequenceEnd : UInt64(UInt32.max)
  }

  /// The largest outer packet, over a link of this MTU.
  @inlinable @inline(__always)
  public func pathMTU(linkMTU: UInt32) -> Int {
    let path = pathMTUAtomic.pointee.load(ordering: .relaxed)
    return Int(path != 0 && path < linkMTU ? path : linkMTU)
  }
  /// Outer IPv4 identification.
}

/// The fields of a policy that change while workers read it.
extension UnsafeMutablePointer where Pointee == gw_policy {
  @inlinable @inline(__always) var saAtomic: UnsafeMutablePointer<Atomic<UnsafeMutablePointer<gw_sa>?>> {
    atomicField(self, 0)
  }

  /// Outbound: the SA to use now, the first of its bundle. Any worker; valid until its next quiescent state.
  @inlinable @inline(__always) public func loadSA() -> UnsafeMutablePointer<gw_sa>? {
    saAtomic.pointee.load(ordering: .acquiring)
  }

  /// Control thread only.
  @inlinable @inline(__always) public func storeSA(_ sa: UnsafeMutablePointer<gw_sa>?) {
    saAtomic.pointee.store(sa, ordering: .releasing)
  }

  @inlinable @inline(__always) var nextAtomic: UnsafeMutablePointer<Atomic<UnsafeMutablePointer<gw_policy>?>> {
    atomicField(self, 40)
  }

  /// Set by the worker that asks for an ACQUIRE, cleared by the control thread when it may be asked for again.
  @inlinable @inline(__always) public var acquirePendingAtomic: UnsafeMutablePointer<Atomic<UInt32>> {
    atomicField(self, 48)
  }
}

/// One worker's counters by slot. The worker alone adds; the control thread may read at any time.
public struct Counters: @unchecked Sendable {
  public let base: UnsafeMutablePointer<gw_counters>

  @inlinable public init(base: UnsafeMutablePointer<gw_counters>) { self.base = base }

  /// `packets` and `bytes` went through at `now`, in seconds of the gateway's clock.
  @inlinable @inline(__always)
  public func add(slot: UInt32, packets: UInt64, bytes: UInt64, now: UInt32) {
    let record = UnsafeMutableRawPointer(base + Int(slot))
    Self.increase(atomicField(record, 0), packets)
    Self.increase(atomicField(record, 8), bytes)
    atomicField(record, 16, as: UInt32.self).pointee.store(now, ordering: .relaxed)
  }

  @inlinable @inline(__always)
  public func addIntegrityFailures(slot: UInt32, _ count: UInt32) {
    Self.increase(atomicField(UnsafeMutableRawPointer(base + Int(slot)), 20), count)
  }

  @inlinable @inline(__always)
  public func addReplayed(slot: UInt32, _ count: UInt32) {
    Self.increase(atomicField(UnsafeMutableRawPointer(base + Int(slot)), 24), count)
  }

  @inlinable @inline(__always)
  public func addDrops(slot: UInt32, _ count: UInt32) {
    Self.increase(atomicField(UnsafeMutableRawPointer(base + Int(slot)), 28), count)
  }

  /// Any thread: a copy whose fields are each whole.
  public func read(slot: Int) -> gw_counters {
    let record = UnsafeMutableRawPointer(base + slot)
    return gw_counters(
      packets: atomicField(record, 0).pointee.load(ordering: .relaxed),
      bytes: atomicField(record, 8).pointee.load(ordering: .relaxed),
      last_used: atomicField(record, 16).pointee.load(ordering: .relaxed),
      integrity_failures: atomicField(record, 20).pointee.load(ordering: .relaxed),
      replayed: atomicField(record, 24).pointee.load(ordering: .relaxed),
      drops: atomicField(record, 28).pointee.load(ordering: .relaxed))
  }

  /// Control thread, when no worker can use the slot any more.
  public func reset(slot: Int) {
    let record = UnsafeMutableRawPointer(base + slot)
    for offset in stride(from: 0, to: MemoryLayout<gw_counters>.size, by: 8) {
      atomicField(record, offset, as: UInt64.self).pointee.store(0, ordering: .relaxed)
    }
  }

  @inlinable @inline(__always)
  static func increase(_ field: UnsafeMutablePointer<Atomic<UInt64>>, _ amount: UInt64) {
    field.pointee.store(field.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  @inlinable @inline(__always)
  static func increase(_ field: UnsafeMutablePointer<Atomic<UInt32>>, _ amount: UInt32) {
    field.pointee.store(field.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }
}
