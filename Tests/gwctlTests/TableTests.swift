import ControlAPI
import ControlAPITesting
import Testing
import Wire

@testable import gwctl

@Suite struct TableTests {
  @Test func numbersAreHumane() {
    #expect(Quantity.grouped(0) == "0")
    #expect(Quantity.grouped(999) == "999")
    #expect(Quantity.grouped(1000) == "1,000")
    #expect(Quantity.grouped(UInt64.max) == "18,446,744,073,709,551,615")
    #expect(Quantity.bytes(1023) == "1023 B")
    #expect(Quantity.bytes(1536) == "1.5 KiB")
    #expect(Quantity.bytes(UInt64.max) == "16.0 EiB")
    #expect(Quantity.duration(59.9) == "00:00:59")
    #expect(Quantity.duration(93784.5) == "1d 02:03:04")
    #expect(Quantity.duration(-.infinity) == "00:00:00")
    #expect(Quantity.percent(0.875) == "87.5 %")
    #expect(Quantity.decimal(.nan, digits: 1) == "-")
    #expect(Quantity.decimal(0.05, digits: 1) == "0.1")
  }

  @Test func ports() async throws {
    let text = PortListing.text(try await FakeGateway().ports(), verbosity: 1)
    #expect(
      text == """
        PORT  LINK          MTU (B)  RX PACKETS  RX BYTES  RX LOST  TX PACKETS  TX BYTES  TX LOST
        wan   up 10 Gbit/s     1500   1,234,567  16.0 EiB       12   1,000,000  61.0 MiB        0

        wan
          device 0000:03:00.0, driver net_ixgbe, MAC 02:00:00:00:00:01
          2 rx queues, 2 tx queues, NUMA socket 0, host TAP yes
          addresses 198.51.100.1/24, 2001:db8:1::1/64
          rx lost: 0 errors, 12 missed by workers, 0 without a buffer

        """)
  }

  @Test func workers() async throws {
    #expect(
      WorkerListing.text(try await FakeGateway().workers(), verbosity: 1) == """
        WORKER  CORE  SOCKET  RX PACKETS  TX PACKETS  DROPPED   BURSTS  PACKETS/BURST  CYCLES/PACKET    IDLE  QUEUES
             0     2       0   1,234,567           0        0  100,000           12.3            312  87.5 %  wan/0

        WORKER  OFFERED  RUN BY OTHERS  RING FULL  RUN FOR OTHERS
             0    4,000          2,500          0               0

        worker 0
        STAGE   CYCLES/PACKET
        crypto          200.5
        rx               20.0

        """)
  }

  @Test func drops() async throws {
    let drops = try await FakeGateway().drops()
    #expect(
      DropListing.text(drops, verbosity: 0) == """
        PACKETS  STAGE    REASON   MEANING
              3  inbound  bad_icv  The ICV did not verify.

        """)
    #expect(DropListing.text(drops, verbosity: 1).contains("no_route"))
    #expect(DropListing.text([], verbosity: 0) == "No packets dropped\n")
  }

  @Test func routesAndNeighborsAndEngines() async throws {
    let gateway = FakeGateway()
    #expect(
      RouteListing.text(try await gateway.routes(), verbosity: 0) == """
        DESTINATION    GATEWAY       PORT  ORIGIN  METRIC  MTU (B)  NEXT HOP
        172.20.1.0/24  198.51.100.2  wan   static       0        -  -

        """)
    #expect(
      NeighborListing.text(try await gateway.neighbors(), verbosity: 0) == """
        ADDRESS       MAC                PORT  STATE      ORIGIN  QUEUED PACKETS
        198.51.100.2  02:00:00:00:00:02  wan   reachable  kernel               4

        """)
    #expect(
      EngineListing.text(try await gateway.engines(), verbosity: 0) == """
        ENGINE   VERSION  SELF-TEST  SAS
        openssl  3.0.22   passed       2

        TRANSFORM       UP TO (B)  ENGINE   NS/PACKET  PICKED
        aes-gcm-16-128        256  openssl        164  yes

        """)
  }

  @Test func status() async throws {
    #expect(
      StatusText.text(try await FakeGateway().status(), verbosity: 0) == """
        gwd            1.0.0, running, process 4242
        uptime         1d 02:03:04
        SAs            1
        flows          1
        key schedules  1 of at most 65,536
        tunnels        none
        ports          1
        workers        2
        hugepages      yes
        mempool        mbuf0: 2767 of 32767 buffers in use, 2176 B each
        configuration  /etc/gw/gateway.yaml
        rules          /etc/gw/ipsec.conf
        last reload    2023-11-14T22:13:20Z, done

        """)
  }
}
