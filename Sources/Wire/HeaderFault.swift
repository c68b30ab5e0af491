/// Why an IP header was refused; each has its own drop counter.
public enum HeaderFault: UInt8, Sendable, Hashable, CaseIterable {
  /// Fewer bytes than the fixed header.
  case truncated
  case version
  /// IPv4: IHL below 5, or beyond the total length.
  case headerLength
  /// The packet claims more bytes than there are, or fewer than its header.
  case totalLength
  /// IPv4.
  case checksum
}
