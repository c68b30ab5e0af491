import CLinux
import Glibc

/// A thread whose end can be waited for: once `join` returns, nothing of it runs any more, the destructors of its
/// thread-local state (libcrypto has some) included.
public final class JoinableThread: @unchecked Sendable {
  public struct Failure: Error, CustomStringConvertible {
    /// An errno.
    public let code: Int32
    public let name: String
    public var description: String { "no thread \(name): \(String(cString: strerror(code)))" }
  }

  private var handle = pthread_t()
  private var isJoined = false

  /// - Parameter name: at most 15 bytes, as the kernel shows it.
  public init(name: String, body: @escaping @Sendable () -> Void) throws(Failure) {
    let start = Unmanaged.passRetained(Start(name: name, body: body))
    let code = pthread_create(&handle, nil, { runThread($0) }, start.toOpaque())
    guard code == 0 else {
      start.release()
      throw Failure(code: code, name: name)
    }
  }

  deinit { if !isJoined { pthread_detach(handle) } }

  /// Waits for its end. Called by one other thread; again does nothing.
  public func join() {
    guard !isJoined else { return }
    isJoined = true
    pthread_join(handle, nil)
  }

  fileprivate final class Start {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
}

private func runThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context else { return nil }
  let start = Unmanaged<JoinableThread.Start>.fromOpaque(context).takeRetainedValue()
  clinux_thread_name(start.name)
  start.body()
  return nil
}
