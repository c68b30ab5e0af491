import CLinux
import Glibc

/// Ends what another thread waits for, for good: its descriptor, polled beside what is waited for, becomes readable and
/// stays so.
public final class Interrupt: Sendable {
  public let descriptor: Int32

  public init() { descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)) }

  deinit { close(descriptor) }

  public func raise() {
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }

  public var isRaised: Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, 0) > 0
  }
}
