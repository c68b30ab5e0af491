import Testing
import Wire

@testable import Routing

/// `#expect` calls no mutating functions.
private final class Paths {
  var value: PathMTU
  init(capacity: Int = 4096) { value = PathMTU(capacity: capacity) }
  func lower(_ to: IPAddress, reported: UInt32, packetLength: UInt32, now: UInt64) -> UInt32? {
    value.lower(to, reported: reported, packetLength: packetLength, now: now)
  }
  func expire(now: UInt64) -> [IPAddress] { value.expire(now: now) }
}

@Suite struct PathMTUTests {
  private let second: UInt64 = 1_000_000_000

  @Test func itIsLoweredAndAges() {
    let paths = Paths()
    let peer = address("198.51.100.2")
    #expect(paths.lower(peer, reported: 1400, packetLength: 1500, now: 0) == 1400)
    #expect(paths.value.mtu(to: peer, now: 599 * second) == 1400)
    #expect(paths.lower(peer, reported: 1450, packetLength: 1500, now: second) == nil, "never raised by ICMP")
    #expect(paths.lower(peer, reported: 1300, packetLength: 1400, now: 2 * second) == 1300)
    #expect(paths.expire(now: 601 * second).isEmpty)
    #expect(paths.value.mtu(to: peer, now: 602 * second) == nil)
    #expect(paths.expire(now: 602 * second) == [peer])
    #expect(paths.value.count == 0)
  }

  @Test func itNeverGoesBelowTheFloor() {
    let paths = Paths()
    #expect(paths.lower(address("198.51.100.2"), reported: 68, packetLength: 1500, now: 0) == 576)
    #expect(paths.lower(address("2001:db8::2"), reported: 68, packetLength: 1500, now: 0) == 1280)
    #expect(paths.lower(address("2001:db8::3"), reported: 1280, packetLength: 1280, now: 0) == nil)
    #expect(paths.lower(address("198.51.100.3"), reported: 1500, packetLength: 1500, now: 0) == nil)
    #expect(paths.lower(address("198.51.100.3"), reported: .max, packetLength: 1500, now: 0) == nil)
    #expect(paths.lower(address("198.51.100.3"), reported: 0, packetLength: 0, now: 0) == nil)
  }

  /// RFC 1191 7.1: routers that do not say the MTU.
  @Test func zeroTakesTheNextPlateau() {
    let paths = Paths()
    let peer = address("198.51.100.2")
    #expect(paths.lower(peer, reported: 0, packetLength: 1500, now: 0) == 1492)
    #expect(paths.lower(peer, reported: 0, packetLength: 1492, now: 0) == 1006)
    #expect(paths.lower(peer, reported: 0, packetLength: 1006, now: 0) == 576)
  }

  @Test func itIsBounded() {
    let paths = Paths(capacity: 2)
    for last in 1...3 {
      _ = paths.lower(address("198.51.100.\(last)"), reported: 1400, packetLength: 1500, now: UInt64(last) * second)
    }
    #expect(paths.value.records().map(\.destination) == [address("198.51.100.2"), address("198.51.100.3")])
  }
}
