import ConfigurationFiles
import Foundation
import Glibc
import StrangerTesting
import Synchronization
import Testing
import Threads

@testable import IKEControl

/// Daemons that never end, never answer, or are not the daemon: nobody waits for them beyond a deadline.
@Suite(.timeLimit(.minutes(2))) struct HostileDaemonTests {
  private static let event = VICIPacket.event("log", VICISection(["msg": String(repeating: "x", count: 4000)]))

  private static func settings(_ path: String) -> IKEAgent.Settings {
    var daemon = KeyDaemon()
    daemon.vici = path
    daemon.credentials = "/nonexistent"
    return IKEAgent.Settings(daemon: daemon, runDirectory: "/nonexistent")
  }

  private static func until(_ condition: () -> Bool) async throws {
    for _ in 0..<3000 {
      if condition() { return }
      try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("not within 30 s")
  }

  /// There is always something to read, and never the answer.
  @Test func anAnswerWithoutAnEndHasADeadline() throws {
    let charon = try FakeCharon(answer: { _, _ in [] }, endless: { _ in Self.event })
    defer { charon.stop() }
    let connection = try VICIConnection(path: charon.path, timeoutSeconds: 1)
    let start = ContinuousClock.now
    #expect(throws: VICIError.timedOut(command: "stats", seconds: 1)) { try connection.request("stats") }
    #expect(start.duration(to: .now) < .seconds(4))
    // What came is kept within a bound.
    var kept = 0
    while connection.hasEvent, try connection.nextEvent(until: .now) != nil { kept += 1 }
    #expect(kept > 0 && kept <= (8 << 20) / 4000)
  }

  /// One exchange after the other, each a little slow.
  @Test func aTurnHasADeadlineToo() throws {
    let charon = try FakeCharon(answer: { _, _ in
      usleep(300_000)
      return [.response(VICISection(["success": "yes"]))]
    })
    defer { charon.stop() }
    let connection = try VICIConnection(path: charon.path, timeoutSeconds: 5)
    connection.turnEnds = .now + .seconds(1)
    let start = ContinuousClock.now
    #expect(throws: VICIError.self) { for _ in 0..<100 { try connection.request("load-conn") } }
    #expect(start.duration(to: .now) < .seconds(4))
  }

  @Test(arguments: [false, true]) func anInterruptEndsAWait(isEndless: Bool) throws {
    let charon = try FakeCharon(answer: { _, _ in [] }, endless: { _ in isEndless ? Self.event : nil })
    defer { charon.stop() }
    let interrupt = Interrupt()
    let connection = try VICIConnection(path: charon.path, timeoutSeconds: 60, interrupt: interrupt)
    Thread.detachNewThread {
      usleep(200_000)
      interrupt.raise()
    }
    let start = ContinuousClock.now
    #expect(throws: VICIError.closed) { try connection.request("stats") }
    #expect(start.duration(to: .now) < .seconds(10))
  }

  /// The agent's thread takes orders, and ends, whatever charon does meanwhile.
  @Test func aFloodOfEventsHoldsNobodyUp() async throws {
    let up = VICIPacket.event("child-updown", VICISection(["up": "yes"]))
    let charon = try FakeCharon(endless: { $0 == "initiate" ? up : nil })
    let agent = IKEAgent(Self.settings(charon.path)) { _, _ in }
    try agent.start()
    let rules = try Rules.parse(Rules.example)
    agent.replace(rules)
    _ = await agent.settled()
    try await Self.until { !charon.requests("initiate").isEmpty }
    try await Task.sleep(for: .milliseconds(200))
    // It speaks without end and listens no more: the order is tried, and given up.
    _ = agent.remove(rules)
    let start = ContinuousClock.now
    _ = await agent.settled()
    #expect(start.duration(to: .now) < .seconds(25))
    agent.stop()
    charon.stop()
  }

  @Test func stoppingWaitsForNoAnswer() async throws {
    let said = Mutex<[String]>([])
    let charon = try FakeCharon(answer: { _, _ in [] })
    let agent = IKEAgent(Self.settings(charon.path)) { _, text in said.withLock { $0.append(text) } }
    try agent.start()
    agent.replace(try Rules.parse(Rules.example))
    try await Self.until { !charon.requests.isEmpty }
    let start = ContinuousClock.now
    agent.stop()
    #expect(start.duration(to: .now) < .milliseconds(900))
    // The thread has ended, and does not take the end for a loss.
    #expect(said.withLock { $0.filter { $0.contains("closed") || $0.contains("wait for") } } == [])
    charon.stop()
  }

  /// Rules have keys in them: they are for root's daemon, or our own.
  @Test(.enabled(if: getuid() == 0)) func aStrangersSocketIsToldNothing() throws {
    let socket = try StrangersSocket(named: "charon.vici", .stream)
    defer { socket.stop() }
    #expect(throws: VICIError.stranger(path: socket.path, user: 65534)) {
      try VICIConnection(path: socket.path)
    }
  }

  // MARK: ikectl

  private func run(_ script: String, seconds: Double = 10, interrupt: Interrupt? = nil) -> Result<
    BoundedCommand.Outcome, BoundedCommand.Failure
  > {
    let command = BoundedCommand(
      program: "/bin/sh", arguments: ["-c", script], timeout: .seconds(seconds), interrupt: interrupt)
    return Result { () throws(BoundedCommand.Failure) in try command.run() }
  }

  @Test func aProgramsOutcome() throws {
    let outcome = try run("echo out; echo err >&2; exit 3").get()
    #expect(outcome.status == 3 && outcome.output == "out\n" && outcome.errors == "err\n")
    // More than a pipe holds, on both.
    let much = try run("head -c 300000 /dev/zero | tee /dev/stderr").get()
    #expect(much.output.utf8.count == 300_000 && much.errors.utf8.count == 300_000)
    // Signals of the gateway's are neither blocked nor ignored in it.
    #expect(try run("grep -cE '^Sig(Blk|Ign):.*[1-9a-f][0-9a-f]{0,6}$' /proc/self/status").get().output == "0\n")
    if case .failure(.signal(SIGTERM)) = run("kill -TERM $$") {} else { Issue.record("not ended by TERM") }
    let nowhere = BoundedCommand(program: "/nonexistent", arguments: [], timeout: .seconds(1))
    #expect(
      performing: { try nowhere.run() }, throws: { if case BoundedCommand.Failure.start = $0 { true } else { false } })
  }

  @Test(arguments: ["sleep 100", "yes", "exec >&- 2>&-; sleep 100"]) func aProgramWithoutAnEnd(_ script: String) {
    let start = ContinuousClock.now
    if case .failure(.endless) = run(script, seconds: 0.5) {} else { Issue.record("\(script) ended") }
    #expect(start.duration(to: .now) < .seconds(8))
  }

  @Test func aProgramIsInterrupted() {
    let interrupt = Interrupt()
    Thread.detachNewThread {
      usleep(100_000)
      interrupt.raise()
    }
    if case .failure(.interrupted) = run("sleep 100", seconds: 60, interrupt: interrupt) {
    } else {
      Issue.record("not interrupted")
    }
  }
}
