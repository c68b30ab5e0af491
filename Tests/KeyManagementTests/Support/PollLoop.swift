import Glibc
import KeyManagement

/// An event loop on poll(2), run by the thread that owns it.
final class PollLoop: EventLoop {
  private var watched: [Int32: (events: IOEvents, handler: (IOEvents) -> Void)] = [:]
  private var timers: [(due: ContinuousClock.Instant, handler: () -> Void)] = []

  func watch(_ descriptor: Int32, for events: IOEvents, handler: @escaping (IOEvents) -> Void) {
    watched[descriptor] = (events, handler)
  }

  func unwatch(_ descriptor: Int32) { watched[descriptor] = nil }

  func schedule(after delay: Duration, _ handler: @escaping () -> Void) {
    timers.append((.now + delay, handler))
  }

  /// One turn of at the most `milliseconds`. True: something happened.
  @discardableResult
  func turn(milliseconds: Int32) -> Bool {
    var sockets = watched.map { descriptor, entry in
      var events: Int16 = 0
      if entry.events.contains(.readable) { events |= Int16(POLLIN) }
      if entry.events.contains(.writable) { events |= Int16(POLLOUT) }
      return pollfd(fd: descriptor, events: events, revents: 0)
    }
    let count = poll(&sockets, nfds_t(sockets.count), milliseconds)
    let due = timers.filter { $0.due <= .now }
    timers.removeAll { $0.due <= .now }
    for timer in due { timer.handler() }
    for socket in sockets where socket.revents != 0 {
      var events: IOEvents = []
      if socket.revents & Int16(POLLIN) != 0 { events.insert(.readable) }
      if socket.revents & Int16(POLLOUT) != 0 { events.insert(.writable) }
      if socket.revents & Int16(POLLHUP | POLLERR) != 0 { events.insert(.hangup) }
      watched[socket.fd]?.handler(events)
    }
    return count > 0
  }
}
