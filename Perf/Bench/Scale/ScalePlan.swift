import Engines
import IPsec
import Wire

/// Addresses and parameters of a million SAs: SA `i` is a tunnel between the gateway and a peer of its own, and carries
/// one flow.
struct ScalePlan {
  let isInbound: Bool
  let algorithm: Algorithm

  static let local = IPAddress(Plan.local)!
  /// Behind the gateway; what is opened goes there.
  static let inside = v4(Int(insideNumber))
  static let insideNumber: UInt64 = 0x0b00_0001
  static let firstFar = 0x0a00_0000
  static let source = IPAddress(Plan.source)!
  static let routes = ["10.0.0.0/8", "11.0.0.0/8", "100.64.0.0/10"]

  static func v4(_ number: Int) -> IPAddress { .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: number))) }
  /// 100.64.1.0 and up.
  static func peer(_ i: Int) -> IPAddress { v4(0x6440_0100 + i) }
  /// 10.0.0.0 and up: the flow's far end.
  static func far(_ i: Int) -> IPAddress { v4(firstFar + i) }

  /// `isFar`: the same SA on the peer's side.
  func sa(_ i: Int, isFar: Bool = false) -> SAParameters {
    let ends = isInbound ? (Self.peer(i), Self.local) : (Self.local, Self.peer(i))
    var sa = SAParameters(
      spi: Plan.spi(i), source: ends.0, destination: ends.1, transform: algorithm.transform(i),
      replayWindow: 0)
    sa.direction = isInbound != isFar ? .in : .out
    return sa
  }

  func policy(_ i: Int) -> PolicyParameters {
    let far = IPPrefix(Self.far(i))
    let selector =
      isInbound
      ? Selector(source: far, destination: IPPrefix("11.0.0.0/8")!)
      : Selector(source: IPPrefix("192.168.0.0/24")!, destination: far)
    let ends = isInbound ? (Self.peer(i), Self.local) : (Self.local, Self.peer(i))
    return PolicyParameters(
      direction: isInbound ? .in : .out, selector: selector,
      templates: [SATemplate(source: ends.0, destination: ends.1)])
  }

  /// In clear: from here to the far end, or from there.
  func packet(_ i: Int, length: Int) -> [UInt8] {
    isInbound
      ? Load.packet(length: length, source: Self.far(i), destination: Self.inside, number: i)
      : Load.packet(length: length, source: Self.source, destination: Self.far(i), number: i)
  }
}
