import Wire

/// Every header view of Wire on a buffer of exactly the input's size: the address sanitizer sees one byte too far.
enum PacketTarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    let count = input.rest.count
    let copy = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 1)
    defer { copy.deallocate() }
    if let source = input.rest.baseAddress { copy.copyMemory(from: source, byteCount: count) }
    let base = UnsafeRawPointer(copy)
    ipv4(base, count)
    ipv6(base, count)
    upper(base, count)
    if let arp = ARP(base, length: count) {
      use(arp.operation, arp.senderHardware, arp.senderAddress, arp.targetHardware, arp.targetAddress)
    }
  }

  private static func ipv4(_ base: UnsafeRawPointer, _ count: Int) {
    guard IPv4Header.fault(base, length: count) == nil else { return }
    let header = IPv4Header(checked: base)
    require(
      header.headerLength >= 20 && header.headerLength <= header.totalLength && header.totalLength <= count, "lengths")
    upper(base + header.headerLength, header.totalLength - header.headerLength)
  }

  private static func ipv6(_ base: UnsafeRawPointer, _ count: Int) {
    guard IPv6Header.fault(base, length: count) == nil else { return }
    let header = IPv6Header(checked: base)
    let walk = IPv6ExtensionHeaders(header)
    guard walk.fault == nil else { return }
    require(Int(walk.upperOffset) <= header.totalLength && header.totalLength <= count, "upper layer")
    require(
      walk.unfragmentableEnd <= walk.upperOffset && walk.fragmentHeaderOffset < walk.upperOffset, "fragment header")
    upper(base + Int(walk.upperOffset), header.totalLength - Int(walk.upperOffset))
    if let message = ICMPv6(base + Int(walk.upperOffset), length: header.totalLength - Int(walk.upperOffset)) {
      use(message.isChecksumValid(source: header.source, destination: header.destination))
    }
  }

  private static func upper(_ base: UnsafeRawPointer, _ count: Int) {
    if let header = AHHeader(base, length: count) {
      require(header.headerLength <= count, "AH length")
      use(header.spi, header.sequence, header.nextHeader, header.icv.byte(at: max(header.icvLength - 1, -12)))
    }
    if let message = ICMP(base, length: count) { use(message.isChecksumValid, message.isError, message.rest) }
    if let message = ICMPv6(base, length: count) { use(message.isError, message.isNeighborDiscovery, message.rest) }
  }

  @inline(never) @_optimize(none) private static func use<each Value>(_ values: repeat each Value) {}
}
