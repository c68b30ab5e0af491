import Foundation
import Synchronization

/// What systemd is told of this process: sd_notify(3)'s protocol, datagrams of VARIABLE=value lines to the socket that
/// $NOTIFY_SOCKET names. Any thread.
public final class ServiceManager: Sendable {
  private let socket: LocalDatagramSocket
  private let lastStatus = Mutex("")
  /// The longest that the watchdog waits; nil: there is none.
  public let watchdog: Duration?

  /// Nil: nobody wants to be told.
  public init?(environment: [String: String] = ProcessInfo.processInfo.environment, processID: Int32 = getpid()) {
    guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@"),
      let socket = LocalDatagramSocket(address: path)
    else { return nil }
    self.socket = socket
    // WATCHDOG_PID names whom it is for.
    let isOurs = environment["WATCHDOG_PID"].map { Int32($0) == processID } ?? true
    let microseconds = isOurs ? environment["WATCHDOG_USEC"].flatMap { Int64($0) } : nil
    watchdog = microseconds.flatMap { $0 > 0 ? .microseconds($0) : nil }
  }

  /// Sockets, TAPs and policies stand.
  public func ready() { send("READY=1") }
  public func reloading() { send("RELOADING=1") }
  public func stopping() { send("STOPPING=1") }
  /// The process does what it is for.
  public func feedWatchdog() { if watchdog != nil { send("WATCHDOG=1") } }

  /// Says it where it differs from what was said last.
  public func show(status: String) {
    let isNew = lastStatus.withLock { last in
      defer { last = status }
      return last != status
    }
    if isNew { send("STATUS=\(status)") }
  }

  /// Nobody waits for an answer, and a manager that is gone is no fault of the gateway's.
  private func send(_ text: String) { socket.send(Array(text.utf8)) }
}

/// Whether every worker's loop has gone on since it was last looked at.
struct Heartbeat {
  private var last: [UInt64] = []

  /// `loops`: how often each has been round. Progress of some that is seen at different times counts together, so that the
  /// watchdog's limit is what each worker has for a round.
  mutating func allAdvanced(_ loops: [UInt64]) -> Bool {
    defer { if last.isEmpty || zip(last, loops).allSatisfy({ $0 != $1 }) { last = loops } }
    return last.count == loops.count && zip(last, loops).allSatisfy { $0 != $1 }
  }
}
