import CDPDK
import Foundation
import Testing
import Wire

@testable import DPDK

/// Frames between two ports of each kind of virtual device, in a process and a network namespace of its own.
@Suite(.enabled(if: geteuid() == 0 && system("unshare -n true") == 0, "needs root and network namespaces"), .serialized)
struct VirtualDriverTests {
  @Test func afPacketWithTwoQueues() async {
    await #expect(processExitsWith: .success) {
      let lab = Lab(veth: true)
      let ports = ["net_af_packet0,iface=v0", "net_af_packet1,iface=v1"].map { lab.open($0, queues: 2) }
      lab.require(ports[0].receiveQueues == 2 && ports[0].transmitQueues == 2, "two queues")
      lab.exchange(ports, lengths: [60, 1514])
      lab.finish(ports)
    }
    Lab.showFailure()
  }

  @Test func afPacketWithJumboFrames() async {
    await #expect(processExitsWith: .success) {
      let lab = Lab(veth: true, mtu: 9600)
      let ports = ["net_af_packet0,iface=v0", "net_af_packet1,iface=v1"].map { lab.open($0) }
      lab.require(ports[0].mtu == 9600, "mtu \(ports[0].mtu)")
      lab.exchange(ports, lengths: [60, 2000, 9614])
      lab.finish(ports)
    }
    Lab.showFailure()
  }

  @Test func afXDP() async {
    await #expect(processExitsWith: .success) {
      let lab = Lab(veth: true)
      let ports = ["net_af_xdp0,iface=v0", "net_af_packet1,iface=v1"].map { lab.open($0, queues: 2) }
      lab.require(ports[0].receiveQueues == 1, "veth has one queue, not \(ports[0].receiveQueues)")
      lab.exchange(ports, lengths: [60, 1514])
      lab.finish(ports, lost: 4096)  // the driver keeps what is in its fill ring
    }
    Lab.showFailure()
  }

  @Test func tap() async {
    await #expect(processExitsWith: .success) {
      let lab = Lab()
      let tap = lab.open("net_tap0,iface=t0", queues: 2)
      lab.require(tap.receiveQueues == 2 && tap.transmitQueues == 2, "two queues")
      let ports = [tap, lab.open("net_af_packet1,iface=t0")]
      lab.exchange(ports, lengths: [60, 1514])
      lab.finish(ports)
    }
    Lab.showFailure()
  }

  @Test func memif() async {
    await #expect(processExitsWith: .success) {
      let lab = Lab()
      let socket = lab.folder.path + "/memif.sock"
      let ports = [
        "net_memif0,role=server,socket=\(socket),socket-abstract=no",
        "net_memif1,role=client,socket=\(socket),socket-abstract=no",
      ]
      .map { lab.open($0) }
      for _ in 0..<500 where !ports.allSatisfy(\.link.isUp) { usleep(10_000) }
      lab.require(ports.allSatisfy(\.link.isUp), "link up")
      lab.exchange(ports, lengths: [60, 1514])
      lab.finish(ports)
    }
    Lab.showFailure()
  }
}

/// EAL, a pool and perhaps a pair of interfaces `v0` and `v1`, in the thread's new network namespace.
struct Lab {
  let eal: EAL
  let pool: Mempool
  let folder: ScratchFolder
  let mtu: Int

  init(veth: Bool = false, mtu: Int = 1500) {
    self.mtu = mtu
    guard cdpdk_new_network_namespace() == 0 else { exit(8) }
    if veth {
      let script =
        "ip link add v0 mtu \(mtu) type veth peer name v1 mtu \(mtu)"
        + " && ip link set v0 up && ip link set v1 up && ip link set lo up"
      guard system(script) == 0 else { exit(9) }
    }
    var configuration = EALConfiguration(workers: [CPUSet.allowed.cores[0]])
    configuration.hugepages = false
    configuration.filePrefix = "dpdk-tests-\(getpid())"
    do {
      eal = try EAL(configuration)
      pool = try Mempool(name: "lab", capacity: 8191, mtu: mtu)
      folder = try ScratchFolder()
    } catch { Self.fail("\(error)") }
  }

  static func fail(_ what: String) -> Never {
    let log = EALLog.shared.lines.map(\.text).joined(separator: "\n")
    try? "\(what)\n\(log)\n".write(toFile: report(getppid()), atomically: true, encoding: .utf8)
    exit(1)
  }

  private static func report(_ parent: Int32) -> String { NSTemporaryDirectory() + "dpdk-tests-\(parent)-failure" }

  /// Prints what a child said before it failed.
  static func showFailure() {
    guard let text = try? String(contentsOfFile: report(getpid()), encoding: .utf8) else { return }
    print(text)
    try? FileManager.default.removeItem(atPath: report(getpid()))
  }

  func require(_ condition: Bool, _ what: String) {
    if !condition { Self.fail(what) }
  }

  func open(_ text: String, queues: Int = 1) -> EthernetPort {
    var configuration = PortConfiguration(queues: queues)
    configuration.receiveDescriptors = 512
    configuration.transmitDescriptors = 512
    configuration.mtu = mtu
    do {
      let port = try EthernetPort(PortDevice(text), configuration) { _ in pool }
      try port.start()
      return port
    } catch { Self.fail("\(text): \(error)") }
  }

  /// A frame of each length from each port to the other.
  func exchange(_ ports: [EthernetPort], lengths: [Int]) {
    for (from, to) in [(ports[0], ports[1]), (ports[1], ports[0])] {
      for length in lengths {
        for queue in 0..<from.transmitQueues {
          send(from, queue, to, length)
        }
      }
    }
  }

  private func send(_ from: EthernetPort, _ queue: Int, _ to: EthernetPort, _ length: Int) {
    guard let expected = pool.allocate(), let copy = pool.allocate() else { Self.fail("the pool is empty") }
    for mbuf in [expected, copy] {
      mbuf.setLength(length)
      memset(mbuf.data, 0x5a, length)
      Ethernet.write(mbuf.data, destination: .broadcast, source: from.macAddress, etherType: 0x88b5)
    }
    var out: Mbuf? = copy
    for _ in 0..<2000 {
      // A memif server sends into buffers that the client's receiving offers.
      if out != nil, cdpdk_tx_burst(from.id, UInt16(queue), &out, 1) == 1 { out = nil }
      if receives(to, expected) { return cdpdk_free(expected) }
      usleep(1000)
    }
    Self.fail("\(to.device) did not receive \(length) bytes from queue \(queue) of \(from.device)")
  }

  private func receives(_ port: EthernetPort, _ expected: Mbuf) -> Bool {
    for queue in 0..<UInt16(port.receiveQueues) {
      var mbuf: Mbuf?
      while cdpdk_rx_burst(port.id, queue, &mbuf, 1) == 1, let received = mbuf {
        defer { cdpdk_free(received) }
        let length = expected.pointee.data_len
        guard received.pointee.pkt_len == UInt32(length), received.pointee.nb_segs == 1 else { continue }
        if memcmp(received.data, expected.data, Int(length)) == 0 { return true }
      }
    }
    return false
  }

  /// Closes the ports: every buffer is back, and EAL stops.
  func finish(_ ports: [EthernetPort], lost: Int = 0) -> Never {
    // 22.11's memif counts on one side only.
    require(ports.contains { $0.statistics.sentPackets > 0 }, "nothing was counted")
    for port in ports {
      require(port.summary.contains("driver net_"), port.summary)
      port.close()
    }
    require(pool.inUse <= lost, "\(pool.inUse) buffers are lost")
    eal.stop()
    exit(0)
  }
}
