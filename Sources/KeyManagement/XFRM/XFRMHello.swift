/// What the shim tells about the socket it stands for: the payload of a NLMSG_NOOP message (`ikeshim.h`). Bits that are
/// not stated stay as they were. A client without the shim may send it too; it has no answer.
///
///     0  port         the socket's nl_pid, to which answers are addressed
///     4  join         multicast groups, bit (group - 1)
///     8  leave
///     12 options      bit 0: extended acknowledgements, bit 1: acknowledgements cut to the header
///     16 stated       which of the options this message states
struct XFRMHello: Equatable, Sendable {
  /// `port` and `join` must be there.
  static let minimumLength = 8

  struct Options: OptionSet, Sendable {
    let rawValue: UInt32
    static let extendedAcknowledgements = Options(rawValue: 1)
    static let cappedAcknowledgements = Options(rawValue: 2)
  }

  var port: UInt32
  var join: UInt32
  var leave: UInt32 = 0
  var options: Options = []
  var stated: Options = []

  init(port: UInt32, join: UInt32 = 0, leave: UInt32 = 0, options: Options = [], stated: Options = []) {
    self.port = port
    self.join = join
    self.leave = leave
    self.options = options
    self.stated = stated
  }

  init?(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= Self.minimumLength else { return nil }
    var cursor = ByteCursor(payload)
    port = cursor.uint32()
    join = cursor.uint32()
    leave = cursor.uint32()
    options = Options(rawValue: cursor.uint32())
    stated = Options(rawValue: cursor.uint32())
  }

  func encode(into builder: inout ByteBuilder) {
    for word in [port, join, leave, options.rawValue, stated.rawValue] { builder.append(word) }
  }
}
