// Big-endian fields at any alignment. The caller has checked the length.
extension UnsafeRawPointer {
  @inlinable @inline(__always) public func byte(at offset: Int) -> UInt8 {
    load(fromByteOffset: offset, as: UInt8.self)
  }

  @inlinable @inline(__always) public func big16(at offset: Int) -> UInt16 {
    UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  @inlinable @inline(__always) public func big32(at offset: Int) -> UInt32 {
    UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  @inlinable @inline(__always) public func big64(at offset: Int) -> UInt64 {
    UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  @inlinable @inline(__always) public func ipv4Address(at offset: Int) -> IPv4Address {
    IPv4Address(rawValue: big32(at: offset))
  }

  @inlinable @inline(__always) public func ipv6Address(at offset: Int) -> IPv6Address {
    IPv6Address(high: big64(at: offset), low: big64(at: offset &+ 8))
  }

  @inlinable @inline(__always) public func macAddress(at offset: Int) -> MACAddress {
    MACAddress(rawValue: UInt64(big16(at: offset)) << 32 | UInt64(big32(at: offset &+ 2)))
  }
}

extension UnsafeMutableRawPointer {
  @inlinable @inline(__always) public func setByte(_ value: UInt8, at offset: Int) {
    storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
  }

  @inlinable @inline(__always) public func setBig16(_ value: UInt16, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
  }

  @inlinable @inline(__always) public func setBig32(_ value: UInt32, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
  }

  @inlinable @inline(__always) public func setBig64(_ value: UInt64, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }

  @inlinable @inline(__always) public func setAddress(_ value: IPv4Address, at offset: Int) {
    setBig32(value.rawValue, at: offset)
  }

  @inlinable @inline(__always) public func setAddress(_ value: IPv6Address, at offset: Int) {
    setBig64(value.high, at: offset)
    setBig64(value.low, at: offset &+ 8)
  }

  @inlinable @inline(__always) public func setAddress(_ value: MACAddress, at offset: Int) {
    setBig16(UInt16(truncatingIfNeeded: value.rawValue >> 32), at: offset)
    setBig32(UInt32(truncatingIfNeeded: value.rawValue), at: offset &+ 2)
  }
}
