import CLinux
import Glibc
import Routing
import Testing
import Wire

@testable import ControlPlane

@Suite struct RouteNoticeTests {
  private func notices(_ bytes: [UInt8]) -> [RouteNotice] {
    bytes.withUnsafeBytes { NetlinkMessages($0).compactMap { RouteNotice($0) } }
  }

  private func route(_ edit: (inout NetlinkRequest) -> Void) -> [UInt8] {
    var message = NetlinkRequest(type: Int(RTM_NEWROUTE), flags: 0, sequence: 1)
    edit(&message)
    return message.bytes
  }

  @Test func aRouteIsRead() throws {
    let bytes = route { message in
      // family, lengths of destination and source, tos, table, protocol, scope, type.
      for byte: UInt8 in [2, 16, 0, 0, 254, 3, 0, 1] { message.append(byte) }
      message.append(UInt32(0))
      message.attribute(Int(RTA_DST.rawValue), [10, 1, 0, 0])
      message.attribute(Int(RTA_GATEWAY.rawValue), [198, 51, 100, 2])
      message.attribute(Int(RTA_OIF.rawValue), 7)
      message.attribute(Int(RTA_PRIORITY.rawValue), 100)
    }
    guard case .route(let route, false, false) = try #require(notices(bytes).first) else {
      Issue.record("no route")
      return
    }
    #expect(route.prefix == IPPrefix("10.1.0.0/16"))
    let wanted = Route(
      IPPrefix("10.1.0.0/16")!, .via(IPAddress("198.51.100.2")!, port: 3), source: .kernel, metric: 100)
    #expect(route.route { $0 == 7 ? 3 : nil } == wanted)
    #expect(route.route { _ in nil } == nil)
  }

  private func readRoute(_ attributes: (inout NetlinkRequest) -> Void) -> KernelRoute? {
    let bytes = route { message in
      for byte: UInt8 in [2, 16, 0, 0, 254, 3, 0, 1] { message.append(byte) }
      message.append(UInt32(0))
      message.attribute(Int(RTA_DST.rawValue), [10, 1, 0, 0])
      attributes(&message)
      message.attribute(Int(RTA_OIF.rawValue), 7)
    }
    guard case .route(let route, _, _) = notices(bytes).first else { return nil }
    return route
  }

  /// What the gateway cannot do must not follow a wider route.
  @Test func whatOnlyTheKernelCanDoIsUnreachable() throws {
    let hop = [UInt8](repeating: 0, count: 15) + [9]
    let by6 = try #require(readRoute { $0.attribute(Int(RTA_VIA.rawValue), [10, 0] + hop) })
    #expect(by6.route { _ in 3 }?.target == .via(IPAddress("::9")!, port: 3) && !by6.isForeign { _ in 3 })
    let foreign = [
      try #require(readRoute { $0.attribute(Int(RTA_ENCAP.rawValue), [8, 0, 1, 0, 0, 1, 0, 0]) }),
      try #require(readRoute { $0.attribute(Int(RTA_VIA.rawValue), [28, 0, 1, 2]) }),
      try #require(readRoute { $0.attribute(Int(RTA_VIA.rawValue), [2, 0] + hop) }),
      try #require(
        readRoute {
          $0.attribute(Int(RTA_MULTIPATH.rawValue), [16, 0, 0, 0, 7, 0, 0, 0, 8, 0, 22, 0, 1, 2, 3, 4])
        }),
    ]
    for route in foreign {
      #expect(route.route { _ in 3 }?.target == .unreachable && route.isForeign { _ in 3 })
      #expect(route.route { _ in nil } == nil && !route.isForeign { _ in nil }, "by another interface")
    }
  }

  /// The kernel itself says whether a question is longer than it should be, where it is asked to be strict.
  @Test func questionsHaveNothingLeftOver() throws {
    let socket = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_ROUTE)
    defer { close(socket) }
    var yes: Int32 = 1
    try #require(setsockopt(socket, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &yes, 4) == 0)
    for type in [RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH, RTM_GETROUTE] {
      let request = RouteNetlink.dumpRequest(Int(type), sequence: 1).bytes
      #expect(send(socket, request, request.count, 0) == request.count)
      var answer = [UInt8](repeating: 0, count: 1 << 16)
      var last: UInt16 = 0
      var code: Int32 = 0
      while last != NLMSG_DONE, last != NLMSG_ERROR {
        let count = recv(socket, &answer, answer.count, 0)
        try #require(count > 0)
        answer.withUnsafeBytes {
          for message in NetlinkMessages(UnsafeRawBufferPointer(rebasing: $0[..<count])) {
            last = message.type
            if last == NLMSG_ERROR { code = NetlinkBytes(bytes: message.payload).load(0, as: Int32.self) }
          }
        }
      }
      #expect(code == 0, "\(type)")
    }
  }

  /// Every cut and every changed byte of good messages, and noise.
  @Test func anyBytesAreHandled() {
    let good = route { message in
      for byte: UInt8 in [10, 48, 0, 0, 254, 3, 0, 1] { message.append(byte) }
      message.append(UInt32(0))
      message.attribute(Int(RTA_DST.rawValue), [UInt8](repeating: 0x20, count: 16))
      message.attribute(Int(RTA_METRICS.rawValue), [8, 0, 2, 0, 0x78, 5, 0, 0])
      message.attribute(
        Int(RTA_MULTIPATH.rawValue), [16, 0, 0, 0, 7, 0, 0, 0, 8, 0, 5, 0, 1, 2, 3, 4, 8, 0, 0, 0, 8, 0, 0, 0])
    }
    #expect(notices(good).count == 1)
    for end in 0..<good.count { _ = notices(Array(good[..<end])) }
    let types = [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE].map { UInt8(Int($0)) }
    var seed = UInt64.random(in: 1...UInt64.max)
    print("RouteNotice hostile: seed \(seed)")
    for _ in 0..<20_000 {
      seed ^= seed << 13
      seed ^= seed >> 7
      seed ^= seed << 17
      var bytes = good
      bytes[4] = types[Int(seed & 3)]
      for shift: UInt64 in [8, 24, 40] {
        bytes[16 + Int(seed >> shift) % (good.count - 16)] = UInt8(truncatingIfNeeded: seed >> (shift + 8))
      }
      for case .route(let route, _, _) in notices(bytes) { _ = route.route { _ in 1 } }
    }
  }
}
