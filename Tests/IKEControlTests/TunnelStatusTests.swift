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
    var status = KeyDaemonStatus(daemon: .charon, socketPath: "/nonexistent")
    func remark(
      _ state: IKEConnectionStatus.State, _ sas: [IKEReport.IKESA], _ change: (inout IKEConnectionStatus) -> Void
    )
      -> String
    {
      var connection = IKEConnectionStatus(rule, .loaded)
      change(&connection)
      status.connections = [connection]
      status.setTunnels(sas, now: Date(timeIntervalSince1970: 2000))
      #expect(status.connections[0].state == state)
      return status.connections[0].remark(now: 2000)
    }
    var sa = IKEReport.IKESA(name: rule.peerName, id: "1", state: "ESTABLISHED")
    sa.children = [IKEReport.ChildSA(name: rule.name, id: "2", state: "INSTALLED")]
    sa.children[0].installedSeconds = 303
    #expect(remark(.up, [sa]) { $0.nextTrySeconds = 7 } == "for 5 min 3 s")
    // Since before its SA was replaced.
    #expect(remark(.up, [sa]) { $0.upSince = 1000 } == "for 16 min 40 s")
    let other = IKEReport.IKESA(name: "peer-192.0.2.9", id: "1", state: "CONNECTING")
    #expect(remark(.down, [other]) { $0.nextTrySeconds = 7 } == "asked for in 7 s")
    let connecting = IKEReport.IKESA(name: rule.peerName, id: "1", state: "CONNECTING")
    #expect(remark(.down, [connecting]) { _ in } == "the peer has not answered yet")
    #expect(
      remark(.down, []) {
        $0.reason = "received AUTHENTICATION_FAILED notify error"
        $0.nextTrySeconds = 0
      } == "received AUTHENTICATION_FAILED notify error; asked for now")
    #expect(remark(.down, []) { $0.mode = "passive" } == "waits for the peer, or gwctl ike connect")
    #expect(remark(.down, []) { $0.held = true } == "torn down; gwctl ike connect brings it back")
    // iked has one child for rules that are alike, by the peer's address.
    status.daemon = .iked
    var child = IKEReport.ChildSA(name: "from-10.9.0.0/16-to-10.8.0.0/16", id: "2", state: "INSTALLED")
    child.localSelectors = ["10.9.0.0/16", "192.168.60.0/24"]
    child.remoteSelectors = ["10.8.0.0/16", "172.20.1.0/24"]
    var iked = IKEReport.IKESA(name: "peer-1.2.3.4", id: "1", state: "ESTABLISHED")
    iked.children = [child]
    #expect(remark(.up, [iked]) { _ in } == "")
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
    var status = agent.status
    status.askForTunnels()
    #expect(status.connections[0].state == .down)
    #expect(status.connections[0].remark().hasPrefix("giving up after 5 retransmits; asked for "))
    #expect(try #require(status.connections[0].nextTrySeconds) <= 33)
    charon.stop()
    var gone = agent.status
    gone.connections = [IKEConnectionStatus(rule, .loaded)]
    gone.askForTunnels()
    #expect(gone.connections[0].state == .loaded)
    agent.stop()
  }
}
