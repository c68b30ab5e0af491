import CLayout
import IPsec
import Routing
import Synchronization

/// Which sources of packets in clear a port takes, by the way back to them (RFC 2827, RFC 3704). What comes out of a tunnel
/// is the SPD's to judge.
public enum SourceCheck: UInt8, Sendable, CaseIterable {
  /// As `strict` for sources that an outbound policy protects, as `loose` for others.
  case auto
  /// The way back leaves by the port that the packet came in by.
  case strict
  /// There is a way back.
  case loose
  case off
}

/// The choice for each port: written by the control thread, read by workers once a flow.
public struct SourceChecks: ~Copyable, Sendable {
  /// The two bits of each port's choice, in a word for each; 0 is `auto`.
  private let low = Atomic<UInt64>(0)
  private let high = Atomic<UInt64>(0)

  public subscript(port: Int) -> SourceCheck {
    let (low, high) = (low.load(ordering: .relaxed), high.load(ordering: .relaxed))
    let shift = UInt64(truncatingIfNeeded: port & 63)
    return SourceCheck(rawValue: UInt8(truncatingIfNeeded: low >> shift & 1 | (high >> shift & 1) << 1))
      .unsafelyUnwrapped
  }

  /// Of all ports, in order. Returns whether any is another than before; flow caches are to be voided then.
  public func set(_ choices: [SourceCheck]) -> Bool {
    func word(_ bit: UInt8) -> UInt64 {
      choices.enumerated().reduce(0) { $0 | UInt64($1.element.rawValue >> bit & 1) << UInt64($1.offset & 63) }
    }
    let (low, high) = (word(0), word(1))
    let before = (self.low.exchange(low, ordering: .relaxed), self.high.exchange(high, ordering: .relaxed))
    return before != (low, high)
  }
}

extension SourceCheck {
  /// Why a flow that came in in clear is refused for its source, which is no martian by itself. `adjacency`: of its
  /// destination.
  static func refuses(
    _ w: WorkerPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    let choice = w.pointee.shared.pointee.sourceChecks[Int(flow.port)]
    guard choice != .off, !hasNoAddressYet(flow) else { return nil }
    let back = w.pointee.adjacencies.adjacency(at: w.adjacencyIndex(ofSource: flow))
    switch back.pointee.kind {
    case .local: return isLinkLocal(flow) ? nil : .martianSource
    case .broadcast, .multicast: return .martianSource
    case .forward, .glean:
      let isStrict = choice == .strict || choice == .auto && protects(w, flow)
      return isStrict && back.pointee.port != flow.port ? .sourceCheck : nil
    case .noRoute, .unreachable, .prohibit, .blackhole:
      // A host that has no route yet hears its DHCP server by the limited broadcast (RFC 2131 4.1).
      let isLimitedBroadcast = adjacency.pointee.kind == .broadcast && adjacency.pointee.port == Adjacency.anyPort
      return isLimitedBroadcast && choice != .strict && !protects(w, flow) ? nil : .sourceCheck
    }
  }

  private static func protects(_ w: WorkerPointer, _ flow: Flow) -> Bool {
    var key = flow.key
    return w.pointee.spd.protectsSource(&key)
  }

  /// 0.0.0.0 and ::, which `Classifier` lets through to the gateway itself alone.
  private static func hasNoAddressYet(_ flow: Flow) -> Bool { flow.key.source_high | flow.key.source_low == 0 }

  /// Neither forwarded nor routed: on the link of the port by what it is (RFC 4291 2.5.6). The route for fe80::/10 leads to
  /// the host.
  private static func isLinkLocal(_ flow: Flow) -> Bool {
    flow.isIPv6 && Martian.isLinkLocal(v6High: flow.key.source_high)
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  func adjacencyIndex(ofSource flow: Flow) -> UInt32 {
    flow.isIPv6
      ? pointee.fib.lookup(v6High: flow.key.source_high, low: flow.key.source_low)
      : pointee.fib.lookup(v4: UInt32(truncatingIfNeeded: flow.key.source_low))
  }
}
