import Foundation
import Synchronization
import Wire

/// The UDP sockets that a key daemon's IKE goes by, and what may be taken for sent by them (`PolicyExemptions`).
///
/// A frame of the kernel's does not say who sent it, so it is told by address and port. That is sound because nobody else
/// can be bound to those: SO_REUSEADDR, by which any user may share a UDP port, is taken from the socket once it is bound;
/// sockets that were bound to the port before must be gone; and what they sent may not wait in a TAP any more. From then on
/// the socket is trusted for as long as the kernel lists it, which is looked up after the frames were read: one that is gone
/// vouches for nothing, and its inode number does not come again.
///
/// Sockets are named by root's processes alone (`IKESocketServer`). Any thread.
public final class KeyDaemonSockets: Sendable {
  /// A daemon has some of them for each address.
  static let mostSockets = 4096
  /// Seconds that a socket may take until it is bound, or be missing in the kernel's list, which is no snapshot: rows may be
  /// left out while others come and go.
  static let patience = 10.0
  /// Readings of a TAP that found nothing more; that of the frame before may have begun earlier.
  private static let emptyReadings: UInt64 = 2

  private enum Trust: Equatable {
    /// Others may be bound to its port.
    case none
    /// They cannot, but may have been when the TAPs had been read empty this often.
    case waits([UInt64])
    case full
  }

  private struct Socket {
    let inode: UInt64
    var takesESP: Bool
    /// Until it is bound.
    var descriptor: Int32?
    var address: IPAddress?
    var port: UInt16 = 0
    var trust = Trust.none
    var isListed = false
    var lastSeen: Double
  }

  private struct State {
    var sockets: [UInt64: Socket] = [:]
    /// How often each TAP was read empty.
    var emptied: [UInt64]
  }

  /// What the control thread tells others.
  public struct Summary: Equatable, Sendable {
    /// Local ports that IKE comes to, and those of them where ESP in UDP does too.
    public var ports: Set<UInt16> = []
    public var encapsulationPorts: Set<UInt16> = []
    /// Where the daemon is not alone: its packets there go by policy.
    public var shared: Set<UInt16> = []
    /// Some are not bound, or not trusted yet.
    public var isSettling = false
    public init() {}
  }

  private let state: Mutex<State>
  private let table: @Sendable () -> UDPSocketTable?
  /// There is one; one of them waits for TAPs to be empty: what the host thread looks at before it takes the lock.
  private let isAny = Atomic(false)
  private let isWaiting = Atomic(false)

  /// `taps`: how many TAPs there are.
  init(taps: Int, table: @escaping @Sendable () -> UDPSocketTable? = { .current() }) {
    state = Mutex(State(emptied: Array(repeating: 0, count: taps)))
    self.table = table
  }

  var isEmpty: Bool { !isAny.load(ordering: .relaxed) }

  // MARK: The control thread

  /// Takes a descriptor over. Returns 0, or why not: an errno.
  public func name(_ descriptor: Int32, takesESP: Bool) -> Int32 {
    var file = stat()
    guard fstat(descriptor, &file) == 0, Self.option(descriptor, SO_PROTOCOL) == Int32(IPPROTO_UDP) else {
      close(descriptor)
      return EINVAL
    }
    let inode = UInt64(file.st_ino)
    let refusal = state.withLock { state in
      if state.sockets[inode] != nil {
        if takesESP { state.sockets[inode]?.takesESP = true }
        return EEXIST
      }
      guard state.sockets.count < Self.mostSockets else { return ENOSPC }
      state.sockets[inode] = Socket(
        inode: inode, takesESP: takesESP, descriptor: descriptor, lastSeen: Self.seconds())
      return 0
    }
    isAny.store(true, ordering: .relaxed)
    if refusal != 0 { close(descriptor) }
    return refusal == EEXIST ? 0 : refusal
  }

  /// Looks again at what the kernel lists.
  @discardableResult
  public func refresh() -> Summary {
    state.withLock { state in
      update(&state)
      return Self.summary(state)
    }
  }

  /// Gives up what is still held.
  func giveUp() {
    state.withLock { state in
      for case let descriptor? in state.sockets.values.map(\.descriptor) { Foundation.close(descriptor) }
      state.sockets = [:]
      isAny.store(false, ordering: .relaxed)
    }
  }

  // MARK: The host thread

  /// The TAP had nothing more, or more has come out of it than it holds. To be said of ports without one, too.
  func noteEmpty(tap: Int) {
    guard isWaiting.load(ordering: .relaxed) else { return }
    state.withLock { $0.emptied[tap] &+= 1 }
  }

  /// Of frames that were read, those that a socket vouches for. `ends`: where they say that they come from; nil: no IKE.
  func vouched(_ ends: [(address: IPAddress, port: UInt16)?]) -> [Bool] {
    state.withLock { state in
      let mayBeOurs = { (end: (address: IPAddress, port: UInt16)?) in
        end.map { end in state.sockets.values.contains { $0.address == nil || $0.port == end.port } } ?? false
      }
      guard ends.contains(where: mayBeOurs) else { return ends.map { _ in false } }
      update(&state)
      let trusted = state.sockets.values.filter { $0.trust == .full && $0.isListed }
      return ends.map { end in
        guard let end else { return false }
        return trusted.contains { $0.port == end.port && Self.covers($0.address, end.address) }
      }
    }
  }

  // MARK: Under the lock

  private func update(_ state: inout State) {
    guard !state.sockets.isEmpty else { return }
    let now = Self.seconds()
    var found = table()
    // Another is looked at after SO_REUSEADDR is off: who came before that is in it.
    if bind(&state, found, now: now) { found = table() }
    for inode in state.sockets.keys { advance(&state, inode, found, now: now) }
    state.sockets = state.sockets.filter { _, socket in
      guard now - socket.lastSeen > Self.patience else { return true }
      if let descriptor = socket.descriptor { Foundation.close(descriptor) }
      return false
    }
    isAny.store(!state.sockets.isEmpty, ordering: .relaxed)
    let isWaiting = state.sockets.values.contains { if case .waits = $0.trust { true } else { false } }
    self.isWaiting.store(isWaiting, ordering: .relaxed)
  }

  /// True: sockets that were not bound are now.
  private func bind(_ state: inout State, _ table: UDPSocketTable?, now: Double) -> Bool {
    var isAny = false
    for row in table?.rows ?? [] {
      guard let descriptor = state.sockets[row.inode]?.descriptor else { continue }
      // Of one bound to a device the port is another's on other devices.
      guard Self.isOfAllDevices(descriptor), Self.takeSharing(descriptor) else { continue }
      Foundation.close(descriptor)
      state.sockets[row.inode]?.descriptor = nil
      state.sockets[row.inode]?.address = row.address
      state.sockets[row.inode]?.port = row.port
      isAny = true
    }
    return isAny
  }

  private func advance(_ state: inout State, _ inode: UInt64, _ table: UDPSocketTable?, now: Double) {
    guard var socket = state.sockets[inode], let address = socket.address else { return }
    let rows = table?.rows ?? []
    socket.isListed = rows.contains { $0.inode == inode }
    if socket.isListed { socket.lastSeen = now }
    let hasOthers = rows.contains { row in
      row.port == socket.port && state.sockets[row.inode] == nil
        && Self.mayShare(row.address, address, isTrusted: socket.trust == .full)
    }
    switch socket.trust {
    case _ where hasOthers || table == nil: socket.trust = .none
    case .none where socket.isListed: socket.trust = .waits(state.emptied)
    case .waits(let before) where zip(before, state.emptied).allSatisfy({ $1 &- $0 >= Self.emptyReadings }):
      socket.trust = .full
    default: break
    }
    state.sockets[inode] = socket
  }

  /// Whether another socket of the port may send from this one's address. One of IPv6 may do so over IPv4, too, if it was
  /// there before; afterwards the kernel sees to it that it does not.
  private static func mayShare(_ other: IPAddress, _ own: IPAddress, isTrusted: Bool) -> Bool {
    if other.family == own.family { return other == own || other.isUnspecified || own.isUnspecified }
    return own.family == .v4 && !isTrusted && (other.isUnspecified || other.halves.0 == 0)
  }

  private static func covers(_ bound: IPAddress?, _ address: IPAddress) -> Bool {
    guard let bound, bound.family == address.family else { return false }
    return bound.isUnspecified || bound == address
  }

  private static func summary(_ state: State) -> Summary {
    var summary = Summary()
    for socket in state.sockets.values {
      if socket.trust != .full { summary.isSettling = true }
      guard socket.address != nil, socket.isListed else { continue }
      summary.ports.insert(socket.port)
      if socket.takesESP { summary.encapsulationPorts.insert(socket.port) }
      if socket.trust == .none { summary.shared.insert(socket.port) }
    }
    return summary
  }

  // MARK: Socket options

  private static func option(_ descriptor: Int32, _ name: Int32) -> Int32 {
    var (value, length): (Int32, socklen_t) = (-1, 4)
    return getsockopt(descriptor, SOL_SOCKET, name, &value, &length) == 0 ? value : -1
  }

  private static func takeSharing(_ descriptor: Int32) -> Bool {
    var off: Int32 = 0
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &off, 4) == 0 && option(descriptor, SO_REUSEADDR) == 0
  }

  private static func isOfAllDevices(_ descriptor: Int32) -> Bool {
    var name = [UInt8](repeating: 0, count: Int(IFNAMSIZ))
    var length = socklen_t(name.count)
    return getsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, &name, &length) == 0 && name[0] == 0
  }

  private static func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
