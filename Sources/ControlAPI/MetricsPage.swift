/// `GET /metrics`: the gateway's counters in Prometheus' text format 0.0.4.
public struct MetricsPage {
  /// Its media type.
  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  public private(set) var text = ""

  public init(
    status: GatewayStatus, ports: [PortStatus], workers: [WorkerStatus], drops: [DropCount],
    tunnels: [TunnelStatus] = []
  ) {
    describe(status)
    describe(ports)
    describe(workers)
    describe(drops)
    describe(status.tunnels, shown: tunnels)
    describe(tunnels)
  }

  private enum Kind: String { case counter, gauge, histogram }
  private typealias Labels = KeyValuePairs<String, String>

  private mutating func describe(_ status: GatewayStatus) {
    family("gw_build_info", .gauge, "Always 1; the version is its label.", [(["version": status.version], 1)])
    family("gw_uptime_seconds", .gauge, "Seconds since the gateway started.", [([:], status.uptimeSeconds)])
    family("gw_running", .gauge, "1 while packets are forwarded.", [([:], status.state == .running ? 1 : 0)])
    family("gw_sas", .gauge, "Security associations in the SAD.", [([:], Double(status.saCount))])
    family(
      "gw_held_sas", .gauge, "SAs that carry nothing until sequence numbers are reserved for them in state-dir.",
      [([:], Double(status.heldSACount))])
    family("gw_state_written", .gauge, "1 while state-dir can be written.", [([:], status.stateWritten ? 1 : 0)])
    family("gw_flows", .gauge, "Policies in the SPD.", [([:], Double(status.flowCount))])
    family(
      "gw_key_schedules", .gauge, "Key schedules of SAs; SAs beyond the limit get theirs when a packet comes.",
      [([:], Double(status.keyScheduleCount))])
    family("gw_key_schedules_limit", .gauge, "Key schedules at most.", [([:], Double(status.keyScheduleLimit))])
    family(
      "gw_mempool_buffers", .gauge, "Packet buffers of a mempool.",
      status.mempools.map { (["mempool": $0.name], Double($0.sizeBuffers)) })
    family(
      "gw_mempool_available_buffers", .gauge, "Packet buffers of a mempool that are free.",
      status.mempools.map { (["mempool": $0.name], Double($0.availableBuffers)) })
    family("gw_sas_limit", .gauge, "Security associations at most.", [([:], Double(status.limits.sas))])
    family("gw_flows_limit", .gauge, "Policies at most.", [([:], Double(status.limits.flows))])
    family(
      "gw_acquires_waiting", .gauge, "Questions to key daemons that wait for an answer.",
      [([:], Double(status.limits.acquiresWaiting))])
    family("gw_acquires_limit", .gauge, "Such questions at most.", [([:], Double(status.limits.acquires))])
    describe(status.keySockets)
    guard let reload = status.lastReload else { return }
    family(
      "gw_last_reload_timestamp_seconds", .gauge, "When the configuration was last reloaded.", [([:], reload.atSeconds)]
    )
    family(
      "gw_last_reload_success", .gauge, "1 if the last reload was accepted.", [([:], reload.succeeded ? 1 : 0)])
  }

  private mutating func describe(_ sockets: [KeySocketStatus]) {
    family(
      "gw_key_socket_clients", .gauge, "Connections of a key socket.",
      sockets.map { (["socket": $0.name], Double($0.clients)) })
    let counters: [(String, String, KeyPath<KeySocketStatus, UInt64>)] = [
      ("gw_key_socket_accepted_total", "Connections accepted.", \.accepted),
      ("gw_key_socket_turned_away_total", "Connections of others than root, or too many.", \.turnedAway),
      ("gw_key_socket_refused_requests_total", "Requests answered with an error.", \.refusedRequests),
      ("gw_key_socket_dropped_notices_total", "Notices that a slow reader missed.", \.droppedNotices),
      ("gw_key_socket_overfull_total", "Connections closed as their answers were not read.", \.overfull),
    ]
    for (name, help, path) in counters {
      integers(name, help, sockets.map { (["socket": $0.name], $0[keyPath: path]) })
    }
  }

  private mutating func describe(_ ports: [PortStatus]) {
    family("gw_port_up", .gauge, "1 if the port's link is up.", ports.map { (["port": $0.name], $0.linkUp ? 1 : 0) })
    let counters: [(String, String, KeyPath<PortStatus, UInt64>)] = [
      ("gw_port_rx_packets_total", "Packets received.", \.rxPackets),
      ("gw_port_rx_bytes_total", "Bytes received.", \.rxBytes),
      ("gw_port_rx_errors_total", "Erroneous packets received.", \.rxErrors),
      ("gw_port_rx_missed_total", "Packets that no worker fetched in time.", \.rxMissed),
      ("gw_port_rx_no_mbuf_total", "Packets lost because the mempool was empty.", \.rxNoMbuf),
      ("gw_port_tx_packets_total", "Packets sent.", \.txPackets),
      ("gw_port_tx_bytes_total", "Bytes sent.", \.txBytes),
      ("gw_port_tx_errors_total", "Packets that could not be sent.", \.txErrors),
    ]
    for (name, help, path) in counters {
      integers(name, help, ports.map { (["port": $0.name], $0[keyPath: path]) })
    }
  }

  private mutating func describe(_ workers: [WorkerStatus]) {
    func labels(_ worker: WorkerStatus) -> Labels { ["worker": "\(worker.id)", "core": "\(worker.core)"] }
    let counters: [(String, String, KeyPath<WorkerStatus, UInt64>)] = [
      ("gw_worker_rx_packets_total", "Packets received by the worker.", \.rxPackets),
      ("gw_worker_tx_packets_total", "Packets sent by the worker.", \.txPackets),
      ("gw_worker_dropped_packets_total", "Packets dropped by the worker.", \.dropPackets),
      ("gw_worker_bursts_total", "Bursts that held packets.", \.bursts),
      ("gw_worker_offered_bursts_total", "Inbound bursts offered to idle workers.", \.offeredBursts),
      ("gw_worker_handed_bursts_total", "Offered bursts that other workers ran.", \.sharedBursts),
      ("gw_worker_handoff_ring_full_total", "Bursts not offered, as the ring was full.", \.handoffRingFull),
      ("gw_worker_helped_bursts_total", "Bursts run for other workers.", \.helpedBursts),
      ("gw_worker_events_dropped_total", "Events that found the ring to the control thread full.", \.eventsDropped),
      ("gw_worker_loops_total", "Turns of the poll loop.", \.loops),
      ("gw_worker_busy_cycles_total", "TSC cycles spent on bursts that held packets.", \.busyCycles),
      ("gw_worker_cycles_total", "TSC cycles in all.", \.totalCycles),
    ]
    for (name, help, path) in counters {
      integers(name, help, workers.map { (labels($0), $0[keyPath: path]) })
    }
    family(
      "gw_worker_idle_ratio", .gauge, "Share of time without packets, 0 to 1, over the last interval.",
      workers.map { (labels($0), $0.idleShare) })
    family(
      "gw_worker_cycles_per_packet", .gauge, "Busy TSC cycles per received packet over the last interval.",
      workers.map { (labels($0), $0.cyclesPerPacket) })
    describeRounds(workers)
  }

  private mutating func describeRounds(_ workers: [WorkerStatus]) {
    let name = "gw_worker_round_seconds"
    let known = workers.compactMap { worker in worker.rounds.map { (worker: worker, rounds: $0) } }
    guard !known.isEmpty else { return }
    text += "# HELP \(name) How long rounds with a full burst took.\n# TYPE \(name) \(Kind.histogram.rawValue)\n"
    for (worker, rounds) in known {
      let labels = "worker=\"\(worker.id)\",core=\"\(worker.core)\""
      for (bound, count) in zip(RoundHistogram.bounds, rounds.counts) {
        text += "\(name)_bucket{\(labels),le=\"\(Self.text(bound))\"} \(count)\n"
      }
      text += "\(name)_bucket{\(labels),le=\"+Inf\"} \(rounds.count)\n"
      text += "\(name)_sum{\(labels)} \(rounds.sumSeconds)\n\(name)_count{\(labels)} \(rounds.count)\n"
    }
  }

  private mutating func describe(_ counts: TunnelCounts, shown: [TunnelStatus]) {
    family(
      "gw_tunnels", .gauge, "Tunnels by state.",
      TunnelStatus.State.allCases.map { (["state": $0.rawValue], Double(counts[$0])) })
    family(
      "gw_tunnels_without_metrics", .gauge, "Tunnels beyond the setting metrics: {tunnels: ...}.",
      [([:], Double(max(0, counts.all - shown.count)))])
  }

  private mutating func describe(_ tunnels: [TunnelStatus]) {
    let named = tunnels.map { (labels: TunnelLabels($0), tunnel: $0) }
    func gauges(_ name: String, _ help: String, _ value: (TunnelStatus) -> Double) {
      family(name, .gauge, help, named.map { ($0.labels.plain, value($0.tunnel)) })
    }
    func counters(_ name: String, _ help: String, _ value: (TunnelStatus) -> UInt64) {
      integers(name, help, named.map { ($0.labels.plain, value($0.tunnel)) })
    }
    gauges("gw_tunnel_configured", "1 while a rule, a flow or the key daemon asks for it.") { $0.isConfigured ? 1 : 0 }
    gauges("gw_tunnel_up", "1 while packets leave through an SA.") { $0.state == .up || $0.state == .static ? 1 : 0 }
    gauges("gw_tunnel_state_changed_timestamp_seconds", "Since when it is up, or is not.") { $0.since }
    counters("gw_tunnel_received_bytes_total", "Bytes of packets that came through it, without protection.") {
      $0.received.bytes
    }
    counters("gw_tunnel_received_packets_total", "Packets that came through it.") { $0.received.packets }
    counters("gw_tunnel_sent_bytes_total", "Bytes of packets that left through it, without protection.") {
      $0.sent.bytes
    }
    counters("gw_tunnel_sent_packets_total", "Packets that left through it.") { $0.sent.packets }
    counters("gw_tunnel_rekeys_total", "Times that the SA that packets leave through was replaced.") { $0.rekeys }
    counters("gw_tunnel_ups_total", "Times that it came up.") { $0.comings }
    integers(
      "gw_tunnel_dropped_packets_total", "Packets dropped that are known to be the tunnel's, by reason.",
      named.flatMap { named in
        TunnelStatus.dropReasons.map { (named.labels.with("reason", $0), named.tunnel.drops[$0] ?? 0) }
      })
    family(
      "gw_tunnel_sa_created_timestamp_seconds", .gauge, "When the newest SA of a direction was made.",
      named.flatMap { named in
        [("in", true), ("out", false)].compactMap { word, isInbound in
          let made = named.tunnel.associations?.filter { $0.isInbound == isInbound }.map(\.created).max()
          return made.map { (named.labels.with("direction", word), $0) }
        }
      })
    gauges("gw_tunnel_sequence_used_ratio", "The largest share of its sequence numbers that an outbound SA has used.") {
      $0.associations?.filter { !$0.isInbound }.map(\.sequenceUse).max() ?? 0
    }
  }

  private struct TunnelLabels {
    let name: String
    let peer: String
    init(_ tunnel: TunnelStatus) {
      name = tunnel.name
      peer = tunnel.peer.map { "\($0)" } ?? ""
    }
    var plain: Labels { ["tunnel": name, "peer": peer] }
    func with(_ key: String, _ value: String) -> Labels { ["tunnel": name, "peer": peer, key: value] }
  }

  private mutating func describe(_ drops: [DropCount]) {
    integers(
      "gw_dropped_packets_total", "Packets dropped, by reason and the stage that dropped them.",
      drops.map { (["reason": $0.reason, "stage": $0.stage], $0.packets) })
  }

  /// Counters keep all of their 64 bits.
  private mutating func integers(_ name: String, _ help: String, _ samples: [(Labels, UInt64)]) {
    write(name, .counter, help, samples.map { ($0.0, String($0.1)) })
  }

  private mutating func family(_ name: String, _ kind: Kind, _ help: String, _ samples: [(Labels, Double)]) {
    write(name, kind, help, samples.map { ($0.0, Self.text($0.1)) })
  }

  private mutating func write(_ name: String, _ kind: Kind, _ help: String, _ samples: [(Labels, String)]) {
    guard !samples.isEmpty else { return }
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    for (labels, value) in samples {
      let list = labels.map { "\($0.key)=\"\(Self.escape($0.value))\"" }.joined(separator: ",")
      text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
    }
  }

  private static func text(_ value: Double) -> String {
    guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Inf" : "+Inf" }
    return value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
  }

  private static func escape(_ label: String) -> String {
    label.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
