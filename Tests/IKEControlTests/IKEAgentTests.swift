import ConfigurationFiles
import Foundation
import Testing

@testable import IKEControl

@Suite(.timeLimit(.minutes(2))) struct IKEAgentTests {
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

  @Test func loadsChangesAndRemoves() async throws {
    let charon = try FakeCharon()
    let agent = IKEAgent(Self.settings(charon.path)) { _, _ in }
    try agent.start()
    let rules = try Rules.parse(Rules.example)
    agent.replace(rules)
    let status = await agent.settled()
    #expect(status.connections.map(\.state) == [.loaded] && status.waitingFor == nil)
    #expect(charon.requests("load-shared").count == 1 && charon.requests("load-conn").count == 1)
    // It is asked for, and only once in a while.
    try await Self.until { charon.requests("initiate").count == 1 }
    #expect(charon.requests("initiate")[0].text("child") == rules[0].name)
    // The same again: nothing is loaded twice.
    agent.replace(rules)
    _ = await agent.settled()
    #expect(charon.requests("load-conn").count == 1)
    #expect(agent.hold([rules[0].name], true) && !agent.hold(["nobody"], true))
    #expect(agent.status.connections[0].held)
    #expect(agent.remove(rules) == [] && agent.remove(rules) == [rules[0].name])
    _ = await agent.settled()
    #expect(charon.requests("unload-conn").map { $0.text("name") } == [rules[0].peerName])
    #expect(charon.requests("terminate").map { $0.text("ike") } == [rules[0].peerName])
    #expect(charon.requests("unload-shared").count == 1)
    agent.stop()
    charon.stop()
  }

  @Test func refusalsAreNamed() async throws {
    let charon = try FakeCharon(answer: { command, _ in
      command == "load-conn"
        ? [.response(VICISection(["success": "no", "errmsg": "invalid proposal"]))]
        : [.response(VICISection(["success": "yes"]))]
    })
    let agent = IKEAgent(Self.settings(charon.path)) { _, _ in }
    try agent.start()
    agent.replace(try Rules.parse(Rules.example + "ike interface sec0 peer 192.0.2.9 psk x\n"))
    let status = await agent.settled()
    #expect(status.connections.map(\.state) == [.failed, .failed])
    #expect(status.connections[0].reason == "invalid proposal" && status.connections[0].line == 3)
    #expect(status.connections[1].reason?.hasPrefix("interface sec0") == true)
    agent.stop()
    charon.stop()
  }

  @Test func waitsForALateDaemonAndForOneThatComesBack() async throws {
    let path = FileManager.default.temporaryDirectory.path + "/vici-\(UUID().uuidString.prefix(8))"
    let agent = IKEAgent(Self.settings(path)) { _, _ in }
    try agent.start()
    agent.replace(try Rules.parse(Rules.example))
    let status = await agent.settled()
    #expect(status.connections.map(\.state) == [.waiting] && status.waitingFor?.contains(path) == true)
    let first = try FakeCharon(path: path)
    try await Self.until { agent.status.connections.first?.state == .loaded }
    first.stop()
    try await Self.until { agent.status.connections.first?.state == .waiting }
    let second = try FakeCharon(path: path)
    try await Self.until { agent.status.connections.first?.state == .loaded }
    #expect(second.requests("load-conn").count == 1)
    agent.stop()
    second.stop()
  }

  /// charon may wait for the gateway's control thread, which stops the agent.
  @Test func aDaemonThatDoesNotAnswerHoldsNobodyUp() async throws {
    let charon = try FakeCharon(answer: { _, _ in [] })
    let agent = IKEAgent(Self.settings(charon.path)) { _, _ in }
    try agent.start()
    agent.replace(try Rules.parse(Rules.example))
    try await Self.until { !charon.requests.isEmpty }
    let before = ContinuousClock.now
    agent.stop()
    #expect(before.duration(to: .now) < .seconds(8))
    charon.stop()
    let never = IKEAgent(Self.settings(charon.path)) { _, _ in }
    never.stop()
  }
}
