import ControlAPI

enum EngineTable {
  static func text(_ engines: [EngineStatus], verbosity: Int) -> String {
    var summary = Table(["ENGINE": .left, "VERSION": .left, "SELF-TEST": .left, "SAS": .right])
    var choices = Table([
      "TRANSFORM": .left, "UP TO (B)": .right, "ENGINE": .left, "NS/PACKET": .right, "PICKED": .left,
    ])
    for engine in engines {
      let test = engine.selfTestFailures.map { $0.isEmpty ? "passed" : "FAILED: " + $0.joined(separator: ", ") }
      summary.add(engine.name, engine.version, test ?? "not run", "\(engine.sessions)")
      for choice in engine.choices where choice.picked || verbosity > 0 {
        choices.add(
          choice.transform, choice.upToBytes.map { "\($0)" } ?? "any", engine.name,
          choice.nanosecondsPerPacket.map { Quantity.decimal($0, digits: 0) } ?? "-", choice.picked ? "yes" : "no")
      }
    }
    return summary.text + (choices.isEmpty ? "" : "\n" + choices.text)
  }
}
