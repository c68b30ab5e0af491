import CDPDK
import Foundation
import Machine
import Testing
import Wire

@testable import DPDK

extension DPDKTests {
  @Suite struct EthernetPortTests {
    static func open(_ text: String, _ pool: Mempool, queues: Int = 1, mtu: Int = 1500) throws -> EthernetPort {
      _ = try TestEAL.started.get()
      var configuration = PortConfiguration(queues: queues)
      configuration.receiveDescriptors = 256
      configuration.transmitDescriptors = 256
      configuration.mtu = mtu
      return try EthernetPort(PortDevice(text), configuration) { _ in pool }
    }

    static func frame(_ pool: Mempool, _ index: Int, length: Int = 60) throws -> Mbuf {
      let mbuf = try #require(pool.allocate())
      mbuf.setLength(length)
      memset(mbuf.data, Int32(index & 0xff), length)
      Ethernet.write(
        mbuf.data, destination: .broadcast, source: MACAddress(rawValue: 0x0200_0000_0001), etherType: 0x88b5)
      return mbuf
    }

    @Test func ringLoop() throws {
      let pool = try TestEAL.pool("ringloop")
      let port = try Self.open("net_ring0", pool)
      #expect(port.driver == "net_ring" && port.receiveQueues == 1 && port.transmitQueues == 1)
      try port.start()
      var out: [Mbuf?] = try (0..<10).map { try Self.frame(pool, $0) }
      #expect(cdpdk_tx_burst(port.id, 0, &out, 10) == 10)
      var received = [Mbuf?](repeating: nil, count: 32)
      #expect(cdpdk_rx_burst(port.id, 0, &received, 32) == 10)
      #expect(Array(received[..<10]) == out)
      cdpdk_free_bulk(&received, 10)
      let statistics = port.statistics
      #expect(statistics.receivedPackets == 10 && statistics.sentPackets == 10)
      port.resetStatistics()
      #expect(port.statistics.sentPackets == 0)
      #expect(port.extendedStatistics.contains { $0.name == "rx_good_packets" })
      port.close()
      #expect(pool.inUse == 0)
      pool.free()
    }

    /// ND, OSPF and VRRP speak to groups, which only the kernel behind the TAP knows.
    @Test(.enabled(if: geteuid() == 0 && access("/dev/net/tun", R_OK) == 0, "needs root"), arguments: [false, true])
    func groupsOfTheHost(wanted: Bool) throws {
      let pool = try TestEAL.pool("groups")
      _ = try TestEAL.started.get()
      var configuration = PortConfiguration()
      configuration.takesAllMulticast = wanted
      let port = try EthernetPort(PortDevice("net_tap7,iface=dpdkgr0"), configuration) { _ in pool }
      #expect(!port.hasAllMulticast)
      try port.start()
      #expect(port.hasAllMulticast == wanted)
      port.close()
      pool.free()
    }

    @Test func aNICThatTheKernelHolds() throws {
      let root = NSTemporaryDirectory() + "gw-pci-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: root) }
      let device = root + "/sys/bus/pci/devices/0000:03:00.0"
      try FileManager.default.createDirectory(atPath: device, withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(atPath: device + "/driver", withDestinationPath: "../e1000e")
      let error = #expect(throws: PortError.self) {
        try DeviceProbe.checkPCI("0000:03:00.0", files: MachineFiles(root: root))
      }
      let text = try #require(error?.description)
      for word in ["e1000e holds it", "driverctl set-override 0000:03:00.0 vfio-pci", "no IOMMU"] {
        #expect(text.contains(word))
      }
    }

    @Test func nullWithTwoQueues() throws {
      let pool = try TestEAL.pool("null")
      let port = try Self.open("net_null0,size=128", pool, queues: 2)
      #expect(port.receiveQueues == 2 && port.transmitQueues == 2)
      try port.start()
      // It has no rules to spread ESP by, and runs without.
      #expect(port.espRules.isEmpty)
      #expect(port.link.isUp)
      var burst = [Mbuf?](repeating: nil, count: 32)
      for queue in 0..<2 as Range<UInt16> {
        #expect(cdpdk_rx_burst(port.id, queue, &burst, 32) == 32)
        #expect(burst[0]?.pointee.data_len == 128)
        #expect(cdpdk_tx_burst(port.id, queue, &burst, 32) == 32)
      }
      port.close()
      #expect(pool.inUse == 0)
      pool.free()
    }

    /// A classic pcap file, little-endian, Ethernet.
    static func pcap(_ frames: [[UInt8]]) -> Data {
      func le32(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
      var data = le32(0xa1b2_c3d4) + [2, 0, 4, 0] + le32(0) + le32(0) + le32(65535) + le32(1)
      for frame in frames { data += le32(1) + le32(0) + le32(frame.count) + le32(frame.count) + frame }
      return Data(data)
    }

    static func frames(in data: Data) -> [[UInt8]] {
      var frames: [[UInt8]] = []
      var rest = Array(data.dropFirst(24))
      while rest.count >= 16 {
        let length = (0..<4).reduce(0) { $0 | Int(rest[8 + $1]) << ($1 * 8) }
        frames.append(Array(rest[16..<16 + length]))
        rest = Array(rest.dropFirst(16 + length))
      }
      return frames
    }

    @Test func pcapInToOut() throws {
      let folder = try ScratchFolder()
      let frames = (0..<100).map { index in (0..<60 + index * 14).map { UInt8(truncatingIfNeeded: $0 * 7 + index) } }
      try Self.pcap(frames).write(to: URL(fileURLWithPath: folder.path + "/in.pcap"))
      let pool = try TestEAL.pool("pcap")
      let input = try Self.open("net_pcap0,rx_pcap=\(folder.path)/in.pcap,tx_pcap=\(folder.path)/back.pcap", pool)
      let output = try Self.open("net_pcap1,tx_pcap=\(folder.path)/out.pcap", pool)
      try input.start()
      try output.start()
      var burst = [Mbuf?](repeating: nil, count: 32)
      var moved = 0
      while case let count = cdpdk_rx_burst(input.id, 0, &burst, 32), count > 0 {
        #expect(cdpdk_tx_burst(output.id, 0, &burst, count) == count)
        moved += Int(count)
      }
      #expect(moved == 100)
      #expect(cdpdk_rx_burst(output.id, 0, &burst, 32) == 0)  // it has no input
      input.close()
      output.close()
      #expect(pool.inUse == 0)
      pool.free()
      let written = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/out.pcap"))
      #expect(Self.frames(in: written) == frames)
    }

    @Test func aNameCanBeOpenedAgain() throws {
      let pool = try TestEAL.pool("again")
      for _ in 0..<3 {
        let port = try Self.open("net_ring7", pool)
        try port.start()
        let error = #expect(throws: PortError.self) { try Self.open("net_ring7", pool) }
        #expect(error == .inUse(device: "net_ring7"))
        port.close()
        port.close()
      }
      #expect(pool.inUse == 0)
      pool.free()
    }

    static func error(_ text: String, mtu: Int = 1500) throws -> PortError? {
      let pool = TestEAL.pool
      let before = rte_eth_dev_count_avail()
      defer { #expect(rte_eth_dev_count_avail() == before, "\(text)") }
      do {
        try Self.open(text, pool, mtu: mtu).close()
        return nil
      } catch let error as PortError {
        #expect(!error.description.contains("\n"))
        return error
      }
    }

    @Test func errorsNameDeviceAndRemedy() throws {
      #expect(
        try Self.error("net_af_packet0,iface=veth9")
          == .noSuchInterface(
            device: "net_af_packet0,iface=veth9", interface: "veth9"))
      #expect(
        try Self.error("net_af_xdp0,iface=veth9")
          == .noSuchInterface(
            device: "net_af_xdp0,iface=veth9", interface: "veth9"))
      #expect(
        try Self.error("net_pcap0,rx_pcap=/no/such.pcap,tx_pcap=/tmp/x.pcap")
          == .noSuchFile(
            device: "net_pcap0,rx_pcap=/no/such.pcap,tx_pcap=/tmp/x.pcap", path: "/no/such.pcap"))
      #expect(
        try Self.error("net_pcap0,tx_pcap=/no/such/out.pcap")
          == .noSuchFile(
            device: "net_pcap0,tx_pcap=/no/such/out.pcap", path: "/no/such"))
      #expect(try Self.error("net_nonsense0") == .noSuchDriver("net_nonsense0"))
      #expect(try Self.error("ffff:ff:1f.7") == .noSuchPCIDevice("ffff:ff:1f.7"))
      for text in ["", ",iface=x", "0000:03", "03:00", "net af", "../x", "0000:03:00.00"] {
        #expect(try Self.error(text) == .malformedDevice(text), "\(text)")
      }
      guard case .refused = try Self.error("net_null5,no_such_argument=1") else {
        Issue.record("an unknown driver argument was taken")
        return
      }
      guard case .mtu = try Self.error("net_ring5", mtu: 9701) else {
        Issue.record("an MTU beyond all limits was taken")
        return
      }
    }

    @Test func devices() throws {
      #expect(try PortDevice("03:00.1") == .pci("0000:03:00.1"))
      #expect(try PortDevice("0000:AB:00.1") == .pci("0000:ab:00.1"))
      let device = try PortDevice("net_af_packet12,iface=veth0,qpairs=2")
      #expect(device == .virtual(name: "net_af_packet12", arguments: "iface=veth0,qpairs=2"))
      #expect(
        device.driver == "net_af_packet" && device.argument("iface") == "veth0" && device.argument("qpairs") == "2")
      #expect(device.argument("face") == nil && device.description == "net_af_packet12,iface=veth0,qpairs=2")
      var configuration = PortConfiguration(queues: 2)
      configuration.mtu = 9000
      #expect(
        DriverArguments(device, configuration).text == "iface=veth0,qpairs=2,framesz=10240,blocksz=40960,framecnt=512")
      let plain = try PortDevice("net_af_packet0,iface=veth0")
      #expect(DriverArguments(plain, PortConfiguration(queues: 2)).text == "iface=veth0,qpairs=2")
      #expect(DriverArguments(plain, PortConfiguration(queues: 1)).text == "iface=veth0")
    }
  }
}
