import CLinux
import Glibc
import Wire

/// What NETLINK_ROUTE tells.
enum RouteNotice: Equatable {
  case link(KernelLink, isGone: Bool)
  case address(KernelAddress, isGone: Bool)
  case neighbor(KernelNeighbor, isGone: Bool)
  /// `isReplacing`: it stands in the place of routes of the same prefix and metric.
  case route(KernelRoute, isGone: Bool, isReplacing: Bool)

  /// Nil: another kind of message, or one that is none of the gateway's business.
  init?(_ message: NetlinkMessage) {
    switch Int(message.type) {
    case Int(RTM_NEWLINK), Int(RTM_DELLINK):
      guard let link = KernelLink(message.payload) else { return nil }
      self = .link(link, isGone: Int(message.type) == Int(RTM_DELLINK))
    case Int(RTM_NEWADDR), Int(RTM_DELADDR):
      guard let address = KernelAddress(message.payload) else { return nil }
      self = .address(address, isGone: Int(message.type) == Int(RTM_DELADDR))
    case Int(RTM_NEWNEIGH), Int(RTM_DELNEIGH):
      guard let neighbor = KernelNeighbor(message.payload) else { return nil }
      self = .neighbor(neighbor, isGone: Int(message.type) == Int(RTM_DELNEIGH))
    case Int(RTM_NEWROUTE), Int(RTM_DELROUTE):
      guard let route = KernelRoute(message.payload) else { return nil }
      self = .route(
        route, isGone: Int(message.type) == Int(RTM_DELROUTE), isReplacing: Int32(message.flags) & NLM_F_REPLACE != 0)
    default: return nil
    }
  }
}

/// Two NETLINK_ROUTE sockets: one hears what changes, the other asks and waits for the answer, which the kernel gives
/// within the call. Control thread.
final class RouteNetlink {
  /// Readable when something has changed. Non-blocking.
  let descriptor: Int32
  private let requests: Int32
  private var sequence: UInt32 = 0
  private var buffer = [UInt8](repeating: 0, count: 1 << 18)

  init() throws(HostNetworkError) {
    descriptor = try Self.open(SOCK_NONBLOCK)
    do throws(HostNetworkError) {
      requests = try Self.open(0)
    } catch {
      close(descriptor)
      throw error
    }
    try subscribe()
  }

  deinit {
    close(descriptor)
    close(requests)
  }

  private static func open(_ flags: __socket_type) throws(HostNetworkError) -> Int32 {
    try open(Int32(flags.rawValue))
  }

  private static func open(_ flags: Int32) throws(HostNetworkError) -> Int32 {
    let result = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | flags, NETLINK_ROUTE)
    guard result >= 0 else { throw .system(what: "opening a route socket", code: errno) }
    return result
  }

  private func subscribe() throws(HostNetworkError) {
    var groups: UInt32 = 0
    for group in [
      RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
    ] {
      groups |= 1 << (group.rawValue - 1)
    }
    var size = Int32(4 << 20)
    // The second goes beyond net.core.rmem_max, with the privilege for it.
    _ = setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
    _ = setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, 4)
    var address = sockaddr_nl(nl_family: UInt16(AF_NETLINK), nl_pad: 0, nl_pid: 0, nl_groups: groups)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
      }
    }
    guard result == 0 else { throw .system(what: "subscribing to route changes", code: errno) }
  }

  // MARK: Hearing

  enum Reading: Equatable {
    case notices([RouteNotice])
    case nothing
    /// Changes were lost: all must be asked for anew.
    case overrun
  }

  /// The next datagram of changes.
  func read() -> Reading {
    while true {
      switch receive(descriptor) {
      case .failure(EINTR): continue
      case .failure(ENOBUFS): return .overrun
      case .failure: return .nothing
      case .success(let count):
        return withMessages(count) { messages in .notices(messages.compactMap { RouteNotice($0) }) }
      }
    }
  }

  private enum Received {
    case success(Int)
    case failure(Int32)
  }

  private func receive(_ socket: Int32) -> Received {
    let count = buffer.withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
    return count < 0 ? .failure(errno) : .success(count)
  }

  private func withMessages<Result>(_ count: Int, _ body: (NetlinkMessages) -> Result) -> Result {
    buffer.withUnsafeBytes { body(NetlinkMessages(UnsafeRawBufferPointer(rebasing: $0[..<count]))) }
  }

  // MARK: Asking

  /// Everything of one kind: RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH or RTM_GETROUTE.
  func dump(_ type: Int) throws(HostNetworkError) -> [RouteNotice] {
    for _ in 0..<4 {
      if let notices = try dumpOnce(type) { return notices }
    }
    throw .system(what: "reading the kernel's tables", code: EBUSY)
  }

  /// Asks for everything of a kind: its fixed part with AF_UNSPEC and zeros. What is longer the kernel takes for attributes.
  static func dumpRequest(_ type: Int, sequence: UInt32) -> NetlinkRequest {
    var request = NetlinkRequest(type: type, flags: NLM_F_DUMP, sequence: sequence)
    let length =
      switch type {
      case Int(RTM_GETLINK): MemoryLayout<ifinfomsg>.size
      case Int(RTM_GETADDR): MemoryLayout<ifaddrmsg>.size
      case Int(RTM_GETNEIGH): MemoryLayout<ndmsg>.size
      default: MemoryLayout<rtmsg>.size
      }
    for _ in 0..<length { request.append(UInt8(0)) }
    return request
  }

  /// Nil: the table changed meanwhile and the answer may have holes.
  private func dumpOnce(_ type: Int) throws(HostNetworkError) -> [RouteNotice]? {
    sequence &+= 1
    try send(Self.dumpRequest(type, sequence: sequence), "reading the kernel's tables")
    var notices: [RouteNotice] = []
    var isInterrupted = false
    while true {
      let isDone = try answer("reading the kernel's tables") { message in
        if Int32(message.flags) & NLM_F_DUMP_INTR != 0 { isInterrupted = true }
        if let notice = RouteNotice(message) { notices.append(notice) }
      }
      if isDone { return isInterrupted ? nil : notices }
    }
  }

  /// Asks for a change and waits for the kernel's yes or no.
  func change(_ request: NetlinkRequest, _ what: String) throws(HostNetworkError) {
    try send(request, what)
    while try !answer(what, { _ in }) {}
  }

  /// A request of its own sequence number that wants an acknowledgement.
  func request(_ type: Int, flags: Int32 = 0) -> NetlinkRequest {
    sequence &+= 1
    return NetlinkRequest(type: type, flags: flags | NLM_F_ACK, sequence: sequence)
  }

  private func send(_ request: NetlinkRequest, _ what: String) throws(HostNetworkError) {
    let sent = request.bytes.withUnsafeBytes { Glibc.send(requests, $0.baseAddress, $0.count, 0) }
    guard sent == request.bytes.count else { throw .system(what: what, code: errno) }
  }

  /// One datagram of the answer to the last request. Returns whether the answer is complete.
  private func answer(_ what: String, _ take: (NetlinkMessage) -> Void) throws(HostNetworkError) -> Bool {
    let received = receive(requests)
    guard case .success(let count) = received, count > 0 else {
      if case .failure(EINTR) = received { return false }
      guard case .failure(let code) = received else { return true }
      throw .system(what: what, code: code)
    }
    let awaited = sequence
    var isDone = false
    var code: Int32 = 0
    withMessages(count) { messages in
      for message in messages where message.sequence == awaited {
        switch Int32(message.type) {
        case NLMSG_DONE, NLMSG_ERROR:
          // Both begin with the negative error number; zero is yes.
          code = NetlinkBytes(bytes: message.payload).load(0, as: Int32.self)
          isDone = true
        default: take(message)
        }
      }
    }
    if code != 0 { throw .system(what: what, code: -code) }
    return isDone
  }
}
