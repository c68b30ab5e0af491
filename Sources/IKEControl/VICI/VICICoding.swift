import COpenSSL

/// Messages as bytes (strongSwan's vici README): a tag a byte, names behind a length byte, values behind two, big-endian.
/// Lengths are checked before they are used, sections nest at most `VICILimits.depth` deep.
public enum VICILimits {
  /// The longest packet that is read or written, in bytes. charon's own limit is 512 KiB.
  public static let packet = 1 << 19
  public static let depth = 16
}

enum VICITag: UInt8 {
  case sectionStart = 1, sectionEnd, keyValue, listStart, listItem, listEnd
}

/// Bytes on their way out; what held secrets is wiped by `wipe`.
struct VICIWriter {
  private(set) var bytes: [UInt8]

  init(capacity: Int = 4096) {
    bytes = []
    bytes.reserveCapacity(capacity)
  }

  mutating func put(_ byte: UInt8) { bytes.append(byte) }

  mutating func put(name: String) throws(VICIError) {
    let utf8 = name.utf8
    guard utf8.count <= 255 else { throw .tooLong(name) }
    bytes.append(UInt8(utf8.count))
    bytes.append(contentsOf: utf8)
  }

  private mutating func put(value: some Collection<UInt8>, of name: String) throws(VICIError) {
    guard value.count <= 65535 else { throw .tooLong(name) }
    bytes.append(UInt8(value.count >> 8))
    bytes.append(UInt8(value.count & 0xff))
    bytes.append(contentsOf: value)
  }

  mutating func put(_ section: VICISection) throws(VICIError) {
    for entry in section.entries {
      switch entry.value {
      case .text(let text):
        put(VICITag.keyValue.rawValue)
        try put(name: entry.name)
        try put(value: text, of: entry.name)
      case .secret(let secret):
        put(VICITag.keyValue.rawValue)
        try put(name: entry.name)
        try put(value: secret.bytes, of: entry.name)
      case .list(let items):
        put(VICITag.listStart.rawValue)
        try put(name: entry.name)
        for item in items {
          put(VICITag.listItem.rawValue)
          try put(value: item, of: entry.name)
        }
        put(VICITag.listEnd.rawValue)
      case .section(let section):
        put(VICITag.sectionStart.rawValue)
        try put(name: entry.name)
        try put(section)
        put(VICITag.sectionEnd.rawValue)
      }
    }
  }

  mutating func wipe() {
    bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
    bytes.removeAll()
  }

  /// An upper bound for the bytes of a section, so that no reallocation leaves a copy of a secret behind.
  static func bound(_ section: VICISection) -> Int {
    section.entries.reduce(0) { sum, entry in
      let value =
        switch entry.value {
        case .text(let text): text.count
        case .secret(let secret): secret.count
        case .list(let items): items.reduce(0) { $0 + $1.count + 3 }
        case .section(let section): bound(section)
        }
      return sum + value + entry.name.utf8.count + 6
    }
  }
}

/// Reads a message out of a packet of a daemon that may say anything.
struct VICIReader {
  private let bytes: ArraySlice<UInt8>
  private var index: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    index = bytes.startIndex
  }

  private var left: Int { bytes.endIndex - index }

  mutating func byte() throws(VICIError) -> UInt8 {
    guard left >= 1 else { throw .malformed("it ends too soon") }
    defer { index += 1 }
    return bytes[index]
  }

  private mutating func take(_ count: Int) throws(VICIError) -> ArraySlice<UInt8> {
    guard left >= count else { throw .malformed("\(count) bytes were announced, \(left) are there") }
    defer { index += count }
    return bytes[index..<index + count]
  }

  mutating func name() throws(VICIError) -> String {
    String(decoding: try take(Int(try byte())), as: UTF8.self)
  }

  private mutating func value() throws(VICIError) -> [UInt8] {
    let high = try byte()
    return Array(try take(Int(high) << 8 | Int(try byte())))
  }

  /// What is left, as a message.
  mutating func message() throws(VICIError) -> VICISection { try section(depth: 0) }

  private mutating func section(depth: Int) throws(VICIError) -> VICISection {
    guard depth <= VICILimits.depth else { throw .malformed("sections nest too deep") }
    var section = VICISection()
    while depth > 0 || left > 0 {
      let tag = try byte()
      switch VICITag(rawValue: tag) {
      case .keyValue:
        let name = try name()
        // A name may stand twice, as SAs of one name do: each stays.
        section.entries.append(.init(name: name, value: .text(try value())))
      case .listStart:
        let name = try name()
        section.entries.append(.init(name: name, value: .list(try items())))
      case .sectionStart:
        let name = try name()
        section.entries.append(.init(name: name, value: .section(try self.section(depth: depth + 1))))
      case .sectionEnd where depth > 0: return section
      default: throw .malformed("tag \(tag) where none can be")
      }
    }
    return section
  }

  private mutating func items() throws(VICIError) -> [[UInt8]] {
    var items: [[UInt8]] = []
    while true {
      let tag = try byte()
      switch VICITag(rawValue: tag) {
      case .listItem: items.append(try value())
      case .listEnd: return items
      default: throw .malformed("tag \(tag) in a list")
      }
    }
  }
}
