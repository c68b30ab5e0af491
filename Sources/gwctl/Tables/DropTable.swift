import ControlAPI

enum DropTable {
  /// The most frequent first; with -v those that never happened too.
  static func text(_ drops: [DropCount], verbosity: Int) -> String {
    let shown = drops.filter { $0.packets > 0 || verbosity > 0 }
      .sorted { ($1.packets, $0.stage, $0.reason) < ($0.packets, $1.stage, $1.reason) }
    guard !shown.isEmpty else { return "No packets dropped\n" }
    var table = Table(["PACKETS": .right, "STAGE": .left, "REASON": .left, "MEANING": .left])
    for drop in shown { table.add(Quantity.grouped(drop.packets), drop.stage, drop.reason, drop.explanation ?? "") }
    return table.text
  }
}
