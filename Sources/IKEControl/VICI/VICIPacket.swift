/// What goes over the socket: a type, for some a name, for some a message. Four bytes of length go before it.
public enum VICIPacket: Sendable, Equatable {
  case request(command: String, VICISection)
  case response(VICISection)
  case commandUnknown
  case register(event: String)
  case unregister(event: String)
  case eventConfirm
  case eventUnknown
  case event(String, VICISection)

  private var kind: UInt8 {
    switch self {
    case .request: 0
    case .response: 1
    case .commandUnknown: 2
    case .register: 3
    case .unregister: 4
    case .eventConfirm: 5
    case .eventUnknown: 6
    case .event: 7
    }
  }

  private var parts: (name: String?, message: VICISection?) {
    switch self {
    case .request(let name, let message), .event(let name, let message): (name, message)
    case .response(let message): (nil, message)
    case .register(let name), .unregister(let name): (name, nil)
    case .commandUnknown, .eventConfirm, .eventUnknown: (nil, nil)
    }
  }

  /// Without the length before it.
  func write(to writer: inout VICIWriter) throws(VICIError) {
    writer.put(kind)
    let parts = parts
    if let name = parts.name { try writer.put(name: name) }
    if let message = parts.message { try writer.put(message) }
  }

  /// The packet with its length before it. The caller wipes it.
  func framed() throws(VICIError) -> VICIWriter {
    let parts = parts
    let bound = 4 + 1 + 256 + (parts.message.map(VICIWriter.bound) ?? 0)
    var body = VICIWriter(capacity: bound)
    defer { body.wipe() }
    try write(to: &body)
    let count = body.bytes.count
    guard count <= VICILimits.packet else { throw .tooLong("a message of \(count) bytes") }
    var framed = VICIWriter(capacity: count + 4)
    for shift in [24, 16, 8, 0] { framed.put(UInt8(truncatingIfNeeded: count >> shift)) }
    for byte in body.bytes { framed.put(byte) }
    return framed
  }

  /// Without the length before it.
  public init(_ bytes: [UInt8]) throws(VICIError) {
    var reader = VICIReader(bytes[...])
    let kind = try reader.byte()
    switch kind {
    case 0: self = .request(command: try reader.name(), try reader.message())
    case 1: self = .response(try reader.message())
    case 2: self = .commandUnknown
    case 3: self = .register(event: try reader.name())
    case 4: self = .unregister(event: try reader.name())
    case 5: self = .eventConfirm
    case 6: self = .eventUnknown
    case 7: self = .event(try reader.name(), try reader.message())
    default: throw .malformed("packet of type \(kind)")
    }
  }
}
