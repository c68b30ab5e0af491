import ControlAPI

enum WorkerTable {
  static func text(_ workers: [WorkerStatus], verbosity: Int) -> String {
    var table = Table([
      "WORKER": .right, "CORE": .right, "SOCKET": .right, "RX PACKETS": .right, "TX PACKETS": .right,
      "DROPPED": .right, "BURSTS": .right, "PACKETS/BURST": .right, "CYCLES/PACKET": .right, "IDLE": .right,
      "QUEUES": .left,
    ])
    for worker in workers {
      let perBurst = worker.bursts == 0 ? 0 : Double(worker.rxPackets) / Double(worker.bursts)
      table.add(
        "\(worker.id)", "\(worker.core)", worker.socket < 0 ? "-" : "\(worker.socket)",
        Quantity.grouped(worker.rxPackets), Quantity.grouped(worker.txPackets), Quantity.grouped(worker.dropPackets),
        Quantity.grouped(worker.bursts), Quantity.decimal(perBurst, digits: 1),
        worker.cyclesPerPacket == 0 ? "-" : Quantity.decimal(worker.cyclesPerPacket, digits: 0),
        Quantity.percent(worker.idleShare), worker.queues.joined(separator: " "))
    }
    var text = table.text
    if verbosity > 0 {
      if workers.contains(where: { $0.offeredBursts | $0.helpedBursts | $0.handoffRingFull != 0 }) {
        text += "\n\(bursts(workers))"
      }
      text += workers.map(stages).joined()
    }
    for worker in workers {
      for warning in worker.warnings { text += "warning: worker \(worker.id): \(warning)\n" }
    }
    return text
  }

  /// Bursts between workers.
  private static func bursts(_ workers: [WorkerStatus]) -> String {
    var table = Table([
      "WORKER": .right, "OFFERED": .right, "RUN BY OTHERS": .right, "RING FULL": .right, "RUN FOR OTHERS": .right,
    ])
    for worker in workers {
      table.add(
        "\(worker.id)", Quantity.grouped(worker.offeredBursts), Quantity.grouped(worker.handedBursts),
        Quantity.grouped(worker.handoffRingFull), Quantity.grouped(worker.helpedBursts))
    }
    return table.text
  }

  private static func stages(_ worker: WorkerStatus) -> String {
    guard let stages = worker.stageCyclesPerPacket, !stages.isEmpty else { return "" }
    var table = Table(["STAGE": .left, "CYCLES/PACKET": .right])
    for (name, cycles) in stages.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
      table.add(name, Quantity.decimal(cycles, digits: 1))
    }
    return "\nworker \(worker.id)\n\(table.text)"
  }
}
