import CLinux

/// A request to NETLINK_ROUTE while it is being built.
struct NetlinkRequest {
  private(set) var bytes: [UInt8]

  /// `flags` beside NLM_F_REQUEST.
  init(type: Int, flags: Int32, sequence: UInt32) {
    bytes = []
    append(UInt32(0))
    append(UInt16(truncatingIfNeeded: type))
    append(UInt16(truncatingIfNeeded: flags | NLM_F_REQUEST))
    append(sequence)
    append(UInt32(0))
  }

  mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    setLength()
  }

  mutating func attribute(_ type: Int, _ value: some Collection<UInt8>) {
    append(UInt16(truncatingIfNeeded: 4 + value.count))
    append(UInt16(truncatingIfNeeded: type))
    bytes.append(contentsOf: value)
    bytes.append(contentsOf: repeatElement(0, count: (4 - value.count % 4) % 4))
    setLength()
  }

  mutating func attribute(_ type: Int, _ value: UInt32) {
    attribute(type, withUnsafeBytes(of: value) { Array($0) })
  }

  private mutating func setLength() {
    guard bytes.count >= NetlinkMessage.headerLength else { return }
    let length = UInt32(bytes.count)
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: length, as: UInt32.self) }
  }
}
