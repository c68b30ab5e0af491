/// What a descriptor is ready for, or is watched for. Hangups and errors are always reported.
public struct IOEvents: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let readable = IOEvents(rawValue: 1)
  public static let writable = IOEvents(rawValue: 2)
  public static let hangup = IOEvents(rawValue: 4)
}

/// The control thread's loop as the key sockets need it. Every handler runs on that thread.
public protocol EventLoop: AnyObject {
  /// Level triggered. A second call for a descriptor replaces the first; `events` may be empty.
  func watch(_ descriptor: Int32, for events: IOEvents, handler: @escaping (IOEvents) -> Void)
  /// Before the descriptor is closed. No handler of it runs afterwards.
  func unwatch(_ descriptor: Int32)
  /// Once.
  func schedule(after delay: Duration, _ handler: @escaping () -> Void)
}
