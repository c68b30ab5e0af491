import CDPDK
import Foundation
import Testing
import Wire

@testable import DPDK

extension DPDKTests {
  @Suite(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0 && geteuid() == 0, "needs root and /dev/net/tun"))
  struct TapDeviceTests {
    static let mac = MACAddress("02:00:5e:00:53:01")!

    @Test func framesBothWays() throws {
      let pool = try TestEAL.pool("tap")
      let tap = try TapDevice(name: "dpdkt0")
      try tap.setMACAddress(Self.mac)
      try tap.setMTU(1400)
      var mtu: Int32 = 0
      #expect(cdpdk_interface_get_mtu("dpdkt0", &mtu) == 0 && mtu == 1400)
      let mbuf = try #require(pool.allocate())
      #expect(tap.read(into: mbuf) != .done)  // it is down
      try tap.setUp(true)
      #expect(tap.index != 0)
      // The other end is an AF_PACKET port on the same interface.
      let port = try EthernetPortTests.open("net_af_packet0,iface=dpdkt0", pool, mtu: 1400)
      try port.start()
      #expect(port.macAddress == Self.mac && port.mtu == 1400)

      let sent = try EthernetPortTests.frame(pool, 5, length: 300)
      #expect(tap.write(sent) == .done)
      #expect(Self.receives(port, sent))

      // The same in two segments.
      let head = try EthernetPortTests.frame(pool, 6, length: 100)
      let tail = try #require(pool.allocate())
      tail.setLength(50)
      memset(tail.data, 0x77, 50)
      #expect(cdpdk_chain(head, tail) == 0 && tap.write(head) == .done)
      #expect(cdpdk_linearize(head) == 0 && Self.receives(port, head))

      var out: Mbuf? = try EthernetPortTests.frame(pool, 5, length: 300)
      #expect(cdpdk_tx_burst(port.id, 0, &out, 1) == 1)
      var isFound = false
      for _ in 0..<100 where !isFound {  // the kernel sends its own neighbour discovery too
        cdpdk_reset(mbuf)
        switch tap.read(into: mbuf) {
        case .done: isFound = mbuf.pointee.data_len == 300 && memcmp(mbuf.data, sent.data, 300) == 0
        case .wouldBlock: usleep(1000)
        case let other:
          Issue.record("\(other)")
          return
        }
      }
      #expect(isFound)
      port.close()
      for mbuf in [mbuf, sent, head] { cdpdk_free(mbuf) }
      tap.close()
      #expect(if_nametoindex("dpdkt0") == 0)
      #expect(pool.inUse == 0)
      pool.free()
    }

    /// Whether `expected` comes out of the port within a second.
    static func receives(_ port: EthernetPort, _ expected: Mbuf) -> Bool {
      for _ in 0..<1000 {
        var mbuf: Mbuf?
        guard cdpdk_rx_burst(port.id, 0, &mbuf, 1) == 1, let mbuf else {
          usleep(1000)
          continue
        }
        defer { cdpdk_free(mbuf) }
        let length = expected.pointee.data_len
        if mbuf.pointee.data_len == length, memcmp(mbuf.data, expected.data, Int(length)) == 0 { return true }
      }
      return false
    }

    @Test func carrier() throws {
      let tap = try TapDevice(name: "dpdkt2")
      try tap.setUp(true)
      func kernelSees() -> String? {
        let text = try? String(contentsOfFile: "/sys/class/net/dpdkt2/carrier", encoding: .ascii)
        return text?.trimmingCharacters(in: .whitespacesAndNewlines)
      }
      #expect(kernelSees() == "1")
      try tap.setCarrier(false)
      #expect(kernelSees() == "0")
      try tap.setCarrier(true)
      #expect(kernelSees() == "1")
      tap.close()
    }

    @Test func errors() throws {
      let tap = try TapDevice(name: "dpdkt1")
      #expect(throws: TapError.busy("dpdkt1")) { try TapDevice(name: "dpdkt1") }
      #expect(throws: TapError.busy("lo")) { try TapDevice(name: "lo") }
      for name in ["", "sixteen-bytes-xx", "a b", "a/b", "tap%d", ".", "a:b"] {
        #expect(throws: TapError.invalidName(name)) { try TapDevice(name: name) }
      }
      tap.close()
      let again = try TapDevice(name: "dpdkt1")
      again.close()
      let error = #expect(throws: TapError.self) { try again.setUp(true) }
      #expect(error == .noDriver || error != nil)
    }
  }
}
