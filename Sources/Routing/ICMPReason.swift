/// What an ICMP error says, in terms of both families.
public enum ICMPReason: Sendable, Equatable {
  case timeExceeded
  case reassemblyTimeExceeded
  case networkUnreachable
  case hostUnreachable
  /// `pointer`: where an IPv6 packet names the protocol; 6 without extension headers.
  case protocolUnreachable(pointer: UInt32 = 6)
  case portUnreachable
  /// "Fragmentation needed" and "packet too big": the largest packet that fits, in bytes.
  case tooBig(mtu: UInt32)
  case prohibited
  /// The byte that is wrong, counted from the start of the IP header.
  case parameterProblem(pointer: UInt32)
  /// IPv6: an option that must be understood (RFC 8200 4.2).
  case unrecognizedOption(pointer: UInt32)

  /// Type, code and the four bytes after the checksum: RFC 792, RFC 1812 5.2.7.1, RFC 1191 4.
  var v4: (type: UInt8, code: UInt8, rest: UInt32) {
    switch self {
    case .timeExceeded: (11, 0, 0)
    case .reassemblyTimeExceeded: (11, 1, 0)
    case .networkUnreachable: (3, 0, 0)
    case .hostUnreachable: (3, 1, 0)
    case .protocolUnreachable: (3, 2, 0)
    case .portUnreachable: (3, 3, 0)
    case .tooBig(let mtu): (3, 4, min(max(mtu, 68), 0xffff))
    case .prohibited: (3, 13, 0)
    case .parameterProblem(let pointer), .unrecognizedOption(let pointer): (12, 0, min(pointer, 255) << 24)
    }
  }

  /// RFC 4443 3. No path has an MTU below 1280 (RFC 8200 5, RFC 8021).
  var v6: (type: UInt8, code: UInt8, rest: UInt32) {
    switch self {
    case .timeExceeded: (3, 0, 0)
    case .reassemblyTimeExceeded: (3, 1, 0)
    case .networkUnreachable: (1, 0, 0)
    case .hostUnreachable: (1, 3, 0)
    case .protocolUnreachable(let pointer): (4, 1, pointer)
    case .portUnreachable: (1, 4, 0)
    case .tooBig(let mtu): (2, 0, max(mtu, 1280))
    case .prohibited: (1, 1, 0)
    case .parameterProblem(let pointer): (4, 0, pointer)
    case .unrecognizedOption(let pointer): (4, 2, pointer)
    }
  }

  /// Of an error about a packet of this version, 4 or 6.
  public func typeAndCode(version: UInt8) -> (type: UInt8, code: UInt8) {
    version == 4 ? (v4.type, v4.code) : (v6.type, v6.code)
  }

  /// RFC 4443 2.4 (e.3): these answer packets to groups too.
  var answersMulticast: Bool {
    switch self {
    case .tooBig, .unrecognizedOption: true
    default: false
    }
  }
}
