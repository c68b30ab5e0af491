import ConfigurationFiles
import Foundation
import Testing

@testable import IKEControl

/// What a person is told of a tunnel: since when it is up, or why it is not and when it is tried again.
@Suite(.timeLimit(.minutes(2))) struct TunnelStatusTests {
  private static func event(_ name: String, _ values: KeyValuePairs<String, String>) -> VICIConnection.Event {
    VICIConnection.Event(name: name, message: VICISection(values))
  }

  private static func child(_ isUp: Bool, _ rule: IKEConnection) -> VICIConnection.Event {
    var child = VICISection(["name": rule.name])
    child.set("state", isUp ? "INSTALLED" : "DELETED")
    var children = VICISection()
    children.set("\(rule.name)-1", section: child)
    var sa = VICISection()
    sa.set("child-sas", section: children)
    var message = VICISection(isUp ? ["up": "yes"] : [:])
    message.set(rule.peerName, section: sa)
    return VICIConnection.Event(name: "child-updown", message: message)
  }

  @Test func notes() throws {
    let rule = try Rules.parse(Rules.example)[0]
    let name = TunnelNotes.Name(rule: rule.name, peer: rule.peerName)
    var notes = TunnelNotes()
    notes.take(Self.event("log", ["ikesa-name": rule.peerName, "msg": "of no rule: error"]))
    notes.take(Self.child(true, rule))
    #expect(notes.complaints.isEmpty && notes.upSince.isEmpty)
    notes.rules = [name]
    let start = Date(timeIntervalSince1970: 1_700_000_000)
    notes.take(Self.event("log", ["ikesa-name": rule.peerName, "msg": "sending packet"]), now: start)
    #expect(notes.complaints.isEmpty)
    notes.take(
      Self.event("log", ["ikesa-name": rule.peerName, "msg": "received NO_PROPOSAL_CHOSEN notify error"]), now: start)
    // What follows says less.
    notes.take(
      Self.event("log", ["ikesa-name": rule.peerName, "msg": "failed to establish CHILD_SA, keeping IKE_SA"]),
      now: start + 1)
    var status = IKEConnectionStatus(rule, .loaded)
    let now = ContinuousClock.now
    notes.due[name] = now + .seconds(12)
    status.add(notes, now: now)
    #expect(status.reason == "received NO_PROPOSAL_CHOSEN notify error" && status.nextTrySeconds == 12)
    notes.take(Self.child(true, rule), now: start)
    // A second child of the same name, as when both sides begin.
    notes.take(Self.child(true, rule), now: start + 5)
    #expect(notes.upSince[name] == start && notes.complaints.isEmpty)
    notes.take(Self.child(false, rule), now: start + 9)
    #expect(notes.upSince.isEmpty)
  }

  @Test func remarks() throws {
    let rule = try Rules.parse(Rules.example)[0]
    func remark(
      _ state: IKEConnectionStatus.State, _ change: (inout IKEConnectionStatus) -> Void
    ) -> String {
      var connection = IKEConnectionStatus(rule, state)
      change(&connection)
      return connection.remark(now: 2000)
    }
    #expect(remark(.up) { $0.upSince = 1000 } == "for 16 min 40 s")
    #expect(remark(.down) { $0.nextTrySeconds = 7 } == "asked for in 7 s")
    #expect(remark(.connecting) { $0.nextTrySeconds = 7 } == "the peer has not answered yet")
    #expect(
      remark(.down) {
        $0.reason = "received AUTHENTICATION_FAILED notify error"
        $0.nextTrySeconds = 0
      } == "received AUTHENTICATION_FAILED notify error; asked for now")
    #expect(remark(.down) { $0.mode = "passive" } == "waits for the peer, or gwctl ike connect")
    #expect(remark(.down) { $0.held = true } == "torn down; gwctl ike connect brings it back")
  }

  /// The whole way, with a charon that has no such SA, and then one that has.
  @Test func asked() async throws {
    let rule = try Rules.parse(Rules.example)[0]
    let charon = try FakeCharon(answer: { command, _ in
      guard command == "list-sas" else { return [.response(VICISection(["success": "yes"]))] }
      return [.response(VICISection())]
    })
    var daemon = KeyDaemon()
    (daemon.vici, daemon.credentials) = (charon.path, "/nonexistent")
    let agent = IKEAgent(.init(daemon: daemon, runDirectory: "/nonexistent")) { _, _ in }
    try agent.start()
    agent.replace([rule])
    _ = await agent.settled()
    charon.send(
      try VICIPacket.event(
        "log", VICISection(["ikesa-name": rule.peerName, "msg": "giving up after 5 retransmits"])
      ).framed().bytes)
    for _ in 0..<3000 where agent.status.connections[0].reason == nil { try await Task.sleep(for: .milliseconds(10)) }
    var status = agent.status.connections[0]
    status.state = .down
    #expect(status.remark().hasPrefix("giving up after 5 retransmits; asked for "))
    #expect(try #require(status.nextTrySeconds) <= 33)
    let news = try #require(agent.takeNews())
    #expect(news.complaints == [rule.peerName: "giving up after 5 retransmits"] && news.hasStates)
    #expect(agent.takeNews() == nil)
    agent.stop()
  }

  /// Connections that are none of the gateway's are told of by what charon calls them.
  @Test func othersAreHeardOf() async throws {
    var child = VICISection(["name": "net", "reqid": "7", "protocol": "ESP"])
    child.set("state", "INSTALLED")
    var children = VICISection()
    children.set("net-1", section: child)
    var sa = VICISection(["remote-host": "198.51.100.2", "local-id": "gw1.example", "remote-id": "gw2.example"])
    sa.set("child-sas", section: children)
    var listed = VICISection()
    listed.set("branch", section: sa)
    let answer = listed
    let charon = try FakeCharon(answer: { command, _ in
      guard command == "list-sas" else { return [.response(VICISection(["success": "yes"]))] }
      return [.event("list-sa", answer), .response(VICISection())]
    })
    var daemon = KeyDaemon()
    (daemon.vici, daemon.credentials) = (charon.path, "/nonexistent")
    let agent = IKEAgent(.init(daemon: daemon, runDirectory: "/nonexistent")) { _, _ in }
    try agent.start()
    agent.watch(true)
    var news: TunnelNews?
    for _ in 0..<3000 where news == nil {
      news = agent.takeNews()
      try await Task.sleep(for: .milliseconds(10))
    }
    let heard = try #require(news?.children[7])
    #expect(heard.connection == "branch" && heard.name == "net" && heard.saProtocol == .esp)
    #expect("\(try #require(heard.peer))" == "198.51.100.2" && heard.remoteIdentity == "gw2.example")
    agent.stop()
    charon.stop()
  }
}
