import Glibc

/// The attributes of a request by type; of duplicates the last counts. Unknown types are passed over, as the kernel
/// does. Valid while the datagram is.
struct XFRMAttributes {
  private var payloads: [UnsafeRawBufferPointer?]

  /// Refuses attributes shorter than their type asks for (ERANGE, as the kernel's validation does), and such as do not
  /// fit, unless `isDump`: there the kernel reads until something is no attribute, and clients send the fixed part of
  /// other requests, of zeros.
  init(_ bytes: UnsafeRawBufferPointer, isDump: Bool = false) throws(KeyRefusal) {
    payloads = Array(repeating: nil, count: XFRMAttributeType.allCases.count + 1)
    var rest = bytes
    while rest.count >= 4 {
      let length = Int(rest.loadUnaligned(as: UInt16.self))
      let type = rest.loadUnaligned(fromByteOffset: 2, as: UInt16.self) & 0x3fff
      guard length >= 4, length <= rest.count else {
        if isDump { break }
        throw .invalid("Attribute \(type) does not fit the message")
      }
      if let known = XFRMAttributeType(rawValue: type) {
        guard length - 4 >= known.minimumLength else {
          throw KeyRefusal(ERANGE, "Attribute \(type) failed policy validation")
        }
        payloads[Int(type)] = UnsafeRawBufferPointer(rebasing: rest[4..<length])
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[min(rest.count, (length + 3) & ~3)...])
    }
  }

  func has(_ type: XFRMAttributeType) -> Bool { payloads[Int(type.rawValue)] != nil }

  /// At least `type.minimumLength` bytes.
  subscript(_ type: XFRMAttributeType) -> ByteCursor? { payloads[Int(type.rawValue)].map { ByteCursor($0) } }

  func uint8(_ type: XFRMAttributeType) -> UInt8? {
    guard var cursor = self[type] else { return nil }
    return cursor.uint8()
  }

  func uint32(_ type: XFRMAttributeType) -> UInt32? {
    guard var cursor = self[type] else { return nil }
    return cursor.uint32()
  }
}
