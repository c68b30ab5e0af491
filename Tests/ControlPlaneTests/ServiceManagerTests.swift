import Testing

@testable import ControlPlane

@Suite struct ServiceManagerTests {
  @Test func whatIsSaid() throws {
    let manager = ListeningDatagramSocket()
    let service = try #require(
      ServiceManager(environment: ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "60000000"]))
    service.ready()
    service.show(status: "2 SAs")
    service.show(status: "2 SAs")
    service.feedWatchdog()
    service.reloading()
    service.stopping()
    let heard = manager.heard.map { String(decoding: $0, as: UTF8.self) }
    #expect(heard == ["READY=1", "STATUS=2 SAs", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"])
    #expect(service.watchdog == .seconds(60))
  }

  @Test func noManagerNoWatchdog() throws {
    #expect(ServiceManager(environment: [:]) == nil)
    #expect(ServiceManager(environment: ["NOTIFY_SOCKET": "vsock:2:1"]) == nil)
    let manager = ListeningDatagramSocket()
    let environment = ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"]
    let service = try #require(ServiceManager(environment: environment, processID: 7))
    service.feedWatchdog()
    #expect(manager.heard.isEmpty && service.watchdog == nil)
  }

  @Test func aManagerThatIsGone() throws {
    let service = try #require(ServiceManager(environment: ["NOTIFY_SOCKET": "/nonexistent/notify"]))
    service.ready()
  }

  @Test func aWorkerThatHangsStarvesTheWatchdog() {
    var heartbeat = Heartbeat()
    var steps: [Bool] = []
    steps.append(heartbeat.allAdvanced([1, 1]))
    steps.append(heartbeat.allAdvanced([2, 5]))
    steps.append(heartbeat.allAdvanced([3, 5]))
    steps.append(heartbeat.allAdvanced([4, 5]))
    steps.append(heartbeat.allAdvanced([4, 6]))
    steps.append(heartbeat.allAdvanced([4, 6]))
    #expect(steps == [false, true, false, false, true, false])
  }
}
