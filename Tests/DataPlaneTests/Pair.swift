import DPDK
import Engines
import IPsec
import Wire

@testable import DataPlane

/// Two gateways, `a` and `b`, with a subnet of each family behind each, and the SAs from `a` to `b`.
struct Pair {
  static let wan4 = ("198.51.100.1", "198.51.100.2")
  static let wan6 = ("2001:db8:ffff::1", "2001:db8:ffff::2")
  static let lan4 = ("10.1.0.0/16", "10.2.0.0/16")
  static let lan6 = ("2001:db8:a::/48", "2001:db8:b::/48")
  static let host4 = ("10.1.0.9", "10.2.0.9")
  static let host6 = ("2001:db8:a::9", "2001:db8:b::9")

  let a: TestGateway
  let b: TestGateway

  init(
    mtu: Int = TestEAL.mtu, engines: (any CryptoEngine, any CryptoEngine) = (OpenSSLEngine(), OpenSSLEngine()),
    bursts: MbufRing? = nil, schedules: Int = 65_536
  ) throws {
    a = try TestGateway(
      own: ["198.51.100.1/24", "2001:db8:ffff::1/64", "10.1.0.1/16", "2001:db8:a::1/48"],
      far: [(Self.lan4.1, Self.wan4.1), (Self.lan6.1, Self.wan6.1)], neighbors: [Self.host4.0, Self.host6.0], mtu: mtu,
      engine: engines.0, schedules: schedules)
    b = try TestGateway(
      own: ["198.51.100.2/24", "2001:db8:ffff::2/64", "10.2.0.1/16", "2001:db8:b::1/48"],
      far: [(Self.lan4.0, Self.wan4.0), (Self.lan6.0, Self.wan6.0)], neighbors: [Self.host4.1, Self.host6.1], mtu: mtu,
      engine: engines.1, bursts: bursts, schedules: schedules)
  }

  static func ends(_ family: AddressFamily) -> (IPAddress, IPAddress) {
    let ends = family == .v4 ? wan4 : wan6
    return (IPAddress(ends.0)!, IPAddress(ends.1)!)
  }

  static func hosts(_ family: AddressFamily) -> (String, String) { family == .v4 ? host4 : host6 }
  static func wan(_ family: AddressFamily) -> (String, String) { family == .v4 ? wan4 : wan6 }

  static func subnets(_ family: AddressFamily) -> Selector {
    let lan = family == .v4 ? lan4 : lan6
    return Selector(source: IPPrefix(lan.0)!, destination: IPPrefix(lan.1)!)
  }

  static func endpoints(_ family: AddressFamily, ipProtocol: UInt8? = nil) -> Selector {
    let (a, b) = ends(family)
    return Selector(
      source: IPPrefix(a, length: family.bits)!, destination: IPPrefix(b, length: family.bits)!,
      ipProtocol: ipProtocol)
  }

  static func sa(
    _ saProtocol: SAProtocol, _ mode: SAMode, _ outer: AddressFamily, spi: UInt32 = 0x1000,
    transform: CryptoTransform = CryptoTransform(encryption: .null), esn: Bool = false, requestID: UInt32 = 0
  ) -> SAParameters {
    let (source, destination) = ends(outer)
    var sa = SAParameters(
      spi: saProtocol == .ipip ? 0 : spi, source: source, destination: destination, saProtocol: saProtocol, mode: mode,
      transform: transform.keyed(for: spi), extendedSequenceNumbers: esn)
    if saProtocol == .ipcomp { sa.compression = .deflate }
    sa.requestID = requestID
    return sa
  }

  /// IPComp may be missing where a packet did not shrink, but a tunnel must not be on the way out.
  static func template(_ sa: SAParameters, _ direction: PolicyDirection) -> SATemplate {
    SATemplate(
      saProtocol: sa.saProtocol, mode: sa.mode, source: sa.source, destination: sa.destination, requestID: sa.requestID,
      isOptional: sa.saProtocol == .ipcomp && (direction != .out || sa.mode == .transport))
  }

  /// Adds the SAs, the innermost first, to both gateways, and the policies that ask for them.
  func add(_ layers: [SAParameters], for selector: Selector) throws {
    for sa in layers {
      try a.security.add(sa, origin: 0)
      try b.security.add(sa, origin: 0)
    }
    for (gateway, direction) in [(a, PolicyDirection.out), (b, .in)] {
      let templates = layers.map { Self.template($0, direction) }
      var policy = PolicyParameters(direction: direction, selector: selector, templates: templates)
      policy.priority = 1000
      _ = try gateway.security.add(policy, replacing: false, origin: 0)
    }
  }
}

extension CryptoTransform {
  /// With other keys for each SPI but the first.
  func keyed(for spi: UInt32) -> CryptoTransform {
    guard spi != 0x1000, encryption.isAEAD || encryption == .aesCTR else { return self }
    var transform = self
    var key = Array(encryptionKey.bytes)
    for i in 0..<4 { key[i] ^= UInt8(truncatingIfNeeded: spi >> (8 * i)) }
    transform.encryptionKey = SecretBytes(key)
    return transform
  }

  static func pattern(_ length: Int, _ seed: Int) -> SecretBytes {
    SecretBytes((0..<length).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ seed) })
  }

  static func esp(
    _ encryption: EncryptionAlgorithm, _ authentication: AuthenticationAlgorithm? = nil
  ) -> CryptoTransform {
    CryptoTransform(
      encryption: encryption, encryptionKey: pattern(encryption.keyLengths[0], 3), authentication: authentication,
      authenticationKey: pattern(authentication?.keyLengths[0] ?? 0, 40))
  }

  static func ah(_ authentication: AuthenticationAlgorithm) -> CryptoTransform { esp(.null, authentication) }
}

/// ipsec-mb where it can, OpenSSL for the rest: against OpenSSL alone on the other side.
struct FastEngine: CryptoEngine {
  let name = "fast"
  private let fast = IPsecMBEngine()
  private let other = OpenSSLEngine()

  func supports(_ transform: CryptoTransform) -> Bool { other.supports(transform) }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    if let fast, fast.supports(transform) {
      return try fast.makeSession(transform, direction: direction, workers: workers)
    }
    return try other.makeSession(transform, direction: direction, workers: workers)
  }
}
