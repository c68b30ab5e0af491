import Foundation
import Glibc
import Testing

@testable import ControlPlane

@Suite struct ServiceManagerTests {
  /// The socket of a systemd that listens.
  private final class Manager {
    let path = NSTemporaryDirectory() + "gw-notify-\(UUID().uuidString.prefix(8))"
    let descriptor = socket(AF_UNIX, 2, 0)  // SOCK_DGRAM

    init() {
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      #expect(result == 0)
    }

    deinit {
      close(descriptor)
      unlink(path)
    }

    var heard: [String] {
      var texts: [String] = []
      var buffer = [UInt8](repeating: 0, count: 512)
      while case let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT)), count > 0 {
        texts.append(String(decoding: buffer[..<count], as: UTF8.self))
      }
      return texts
    }
  }

  @Test func whatIsSaid() throws {
    let manager = Manager()
    let service = try #require(
      ServiceManager(environment: ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "60000000"]))
    service.ready()
    service.show(status: "2 SAs")
    service.show(status: "2 SAs")
    service.feedWatchdog()
    service.reloading()
    service.stopping()
    #expect(manager.heard == ["READY=1", "STATUS=2 SAs", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"])
    #expect(service.watchdog == .seconds(60))
  }

  @Test func noManagerNoWatchdog() throws {
    #expect(ServiceManager(environment: [:]) == nil)
    #expect(ServiceManager(environment: ["NOTIFY_SOCKET": "vsock:2:1"]) == nil)
    let manager = Manager()
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
