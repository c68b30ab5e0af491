import ConfigurationFiles
import ControlAPI
import IKEControl
import IPsec
import Wire

/// One tunnel of the table. Control thread only.
final class Tunnel {
  /// An `ike` rule, by which it is known whether it is there or not.
  struct Rule: Hashable {
    var name: String
    var peerName: String
  }

  struct Key: Hashable {
    var selector: Selector
    var peer: IPAddress?
  }

  /// A policy and those for the traffic that comes back, by their indices.
  struct Flow {
    var selector: Selector
    var out: UInt32
    var incoming: [UInt32] = []
    var bindings: [TunnelBinding]
  }

  /// Its place in the table.
  let slot: Int
  /// Counts up with every tunnel.
  let number: UInt64
  var name: String
  let origin: TunnelStatus.Origin
  let rule: Rule?
  var peer: IPAddress?
  /// What the rule asks for.
  var wanted: Selector?
  var flows: [Flow] = []
  var life: TunnelLife
  var history = TunnelHistory()
  /// Not nil: everything that it was made of is gone, since then.
  var departed: Double?
  /// Of policies and SAs that are gone.
  var retired = Totals()
  /// Why packets will have no SA, if they have none when it is looked for next.
  var cause: String?
  /// Waits to be looked at.
  var isPending = false
  /// Its state as others know it.
  var shown = TunnelStatus.State.down
  /// It is in the table no more.
  var isGone = false
  /// The daemon's connection and child, where they are known.
  var child: DaemonChild?

  struct Totals {
    var received = TrafficCount()
    var sent = TrafficCount()
    var drops = Drops()
  }

  struct Drops {
    var replayed: UInt64 = 0
    var integrity: UInt64 = 0
    /// By its SAs, for other reasons.
    var other: UInt64 = 0
    var withoutSA: UInt64 = 0

    var all: UInt64 { replayed + integrity + other + withoutSA }

    mutating func add(_ record: SARecord) {
      let counters = record.counters
      let known = counters.replayed + counters.integrityFailures
      let total = counters.inputDrops + counters.outputDrops
      replayed += counters.replayed
      integrity += counters.integrityFailures
      other += total > known ? total - known : 0
    }

    var byReason: [String: UInt64] {
      [
        "replay": replayed, "integrity": integrity, "other": other, "policy_no_sa": withoutSA,
      ]
    }
  }

  init(
    slot: Int, number: UInt64, name: String, origin: TunnelStatus.Origin, rule: Rule? = nil, peer: IPAddress?,
    now: Double,
    reason: String?
  ) {
    self.slot = slot
    self.number = number
    self.name = name
    self.origin = origin
    self.rule = rule
    self.peer = peer
    life = TunnelLife(now: now, reason: reason)
  }

  /// What it is found by when its policies come back.
  var key: Key?

  /// Where its policies are gone and no rule asks for it.
  var isAbandoned: Bool { rule == nil && flows.isEmpty }

  /// The connection by whose name the key daemon speaks of it.
  var connection: String? { rule?.peerName ?? child?.connection }

  /// SAs are looked for by each once, however many flows share it.
  var bindings: [TunnelBinding] {
    var seen: [TunnelBinding] = []
    for flow in flows { for binding in flow.bindings where !seen.contains(binding) { seen.append(binding) } }
    return seen
  }
}

extension Selector {
  /// `from-10.1.1.0/24-to-10.1.2.0/24`, as rules of `ipsec.conf` are called; with protocol and ports where it has them.
  var tunnelName: String {
    func end(_ prefix: IPPrefix, _ ports: ClosedRange<UInt16>) -> String {
      let text = "\(prefix)"
      if ports == Selector.anyPort { return text }
      return text + (ports.count == 1 ? ":\(ports.lowerBound)" : ":\(ports.lowerBound)-\(ports.upperBound)")
    }
    return "from-\(end(source, sourcePorts))-to-\(end(destination, destinationPorts))"
      + (ipProtocol.map { "-proto-\($0)" } ?? "")
  }
}

extension DaemonChild {
  /// The rule that it is of, if it is of one.
  var rule: Tunnel.Rule { Tunnel.Rule(name: name, peerName: connection) }

  var tunnelName: String { "\(connection)/\(name)" }

  /// What its SAs are found by; nil: its peer is not known.
  var binding: TunnelBinding? {
    peer.map { TunnelBinding(saProtocol: saProtocol, peer: $0, requestID: requestID) }
  }
}

extension PolicyParameters {
  var asksForProtection: Bool {
    switch type {
    case .use, .acquire, .require, .dontacq: !templates.isEmpty
    case .bypass, .deny: false
    }
  }
}
