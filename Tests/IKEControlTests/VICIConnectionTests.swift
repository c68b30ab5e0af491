import Foundation
import Testing

@testable import IKEControl

@Suite struct VICIConnectionTests {
  @Test func requestsStreamsAndEvents() throws {
    let charon = try FakeCharon(answer: { command, message in
      let success = VICIPacket.response(VICISection(["success": "yes"]))
      switch command {
      case "version": return [.response(VICISection(["daemon": "charon", "version": "5.9.8"]))]
      case "list-sas":
        var sa = VICISection()
        sa.set("net", section: VICISection(["state": "ESTABLISHED"]))
        return [.event("list-sa", sa), .event("log", VICISection(["msg": "x"])), .event("list-sa", sa), success]
      case "unload-conn": return [.response(VICISection(["success": "no", "errmsg": "not found"]))]
      case "strange": return [.commandUnknown]
      default: return [success]
      }
    })
    defer { charon.stop() }
    let connection = try VICIConnection(path: charon.path)
    #expect(connection.daemonProcess == getpid())
    #expect(try connection.request("version").text("version") == "5.9.8")
    var seen = 0
    try connection.stream("list-sas", event: "list-sa") { answer in
      if answer.sections[0].section.text("state") == "ESTABLISHED" { seen += 1 }
    }
    #expect(seen == 2)
    #expect(try connection.nextEvent(until: .now)?.name == "log")
    #expect(try connection.nextEvent(until: .now) == nil)
    #expect(throws: VICIError.refused(command: "unload-conn", reason: "not found")) {
      try connection.request("unload-conn", VICISection(["name": "x"]))
    }
    #expect(throws: VICIError.unknown("the command strange")) { try connection.request("strange") }
  }

  @Test func nobodyThere() throws {
    #expect(throws: VICIError.notRunning(path: "/nonexistent/vici")) { try VICIConnection(path: "/nonexistent/vici") }
    let long = "/" + String(repeating: "x", count: 200)
    #expect(throws: VICIError.self) { try VICIConnection(path: long) }
    let charon = try FakeCharon(answer: { _, _ in [] })
    let connection = try VICIConnection(path: charon.path, timeoutSeconds: 0.2)
    #expect(throws: VICIError.timedOut(command: "stats", seconds: 0.2)) { try connection.request("stats") }
    charon.stop()
    #expect(throws: VICIError.closed) { try connection.request("stats", timeoutSeconds: 10) }
  }

  @Test(
    arguments: [
      [0, 0, 0, 0], [255, 255, 255, 255, 1], [0, 8, 0, 1, 1], [0, 0, 0, 1, 9], [0, 0, 0, 2, 1, 3],
    ] as [[UInt8]])
  func lies(_ bytes: [UInt8]) throws {
    let charon = try FakeCharon(answer: { _, _ in [] })
    defer { charon.stop() }
    let connection = try VICIConnection(path: charon.path, timeoutSeconds: 5)
    Thread.detachNewThread {
      usleep(50_000)
      charon.send(bytes)
    }
    #expect(throws: VICIError.self) { try connection.request("stats") }
  }
}
