import IPsec
import Wire

@testable import KeyManagement

/// The messages of OpenIKED 7.2 on Linux, rebuilt from decoded traces of a real run.
enum Iked {
  static let a: IPAddress = "10.9.0.1"
  static let b: IPAddress = "10.9.0.2"
  static let encryptionKey: [UInt8] = Array(0..<32)
  static let authenticationKey: [UInt8] = Array(100..<164)

  static func append(_ type: PFKeyExtensionType, _ address: IPAddress, to builder: inout ByteBuilder) {
    builder.pfkeyExtension(type) { PFKeyAddress(address).encode(into: &$0, dialect: .linux) }
  }

  static func getSPI(from source: IPAddress, to destination: IPAddress) -> [UInt8] {
    PFKeyProbe.message(.getSPI, sequence: 4) { builder in
      builder.pfkeyExtension(.spiRange) { builder in
        builder.append(UInt32(0x100))
        builder.append(UInt32.max)
        builder.zeros(4)
      }
      append(.source, source, to: &builder)
      append(.destination, destination, to: &builder)
    }
  }

  static func appendSA(_ spi: UInt32, algorithms: Bool = true, to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.sa) { builder in
      var sa = PFKeySA()
      sa.spi = spi
      sa.replay = 64
      if algorithms { (sa.authentication, sa.encryption) = (7, 12) }
      sa.encode(into: &builder)
    }
  }

  static func appendSA2(mode: UInt8, to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.sa2) { $0.append(bytes: [mode] + [UInt8](repeating: 0, count: 11)) }
  }

  static func appendLifetime(_ type: PFKeyExtensionType, bytes: UInt64, add: UInt64, to builder: inout ByteBuilder) {
    builder.pfkeyExtension(type) { builder in
      builder.append(UInt32(0))
      for value in [bytes, add, 0] { builder.append(value) }
    }
  }

  static func appendKey(_ type: PFKeyExtensionType, _ key: [UInt8], to builder: inout ByteBuilder) {
    builder.pfkeyExtension(type) { builder in
      builder.append(UInt16(key.count * 8))
      builder.zeros(2)
      builder.append(bytes: key)
    }
  }

  static func sa(
    _ type: PFKeyMessageType, _ spi: UInt32, from source: IPAddress, to destination: IPAddress, natPort: UInt16? = nil
  ) -> [UInt8] {
    PFKeyProbe.message(type, sequence: 5) { builder in
      appendSA(spi, to: &builder)
      appendSA2(mode: 2, to: &builder)
      append(.source, source, to: &builder)
      append(.destination, destination, to: &builder)
      appendLifetime(.lifetimeSoft, bytes: 497_025_024, add: 3412, to: &builder)
      appendLifetime(.lifetimeHard, bytes: 524_288_000, add: 3600, to: &builder)
      if let natPort {
        builder.pfkeyExtension(.natType) { $0.append(UInt8(2)) }
        builder.pfkeyExtension(.natSourcePort) { $0.appendBig(UInt16(4500)) }
        builder.pfkeyExtension(.natDestinationPort) { $0.appendBig(natPort) }
      }
      appendKey(.encryptionKey, encryptionKey, to: &builder)
      appendKey(.authenticationKey, authenticationKey, to: &builder)
    }
  }

  static func named(
    _ type: PFKeyMessageType, _ spi: UInt32, from source: IPAddress, to destination: IPAddress
  ) -> [UInt8] {
    PFKeyProbe.message(type, sequence: 12) { builder in
      appendSA(spi, algorithms: false, to: &builder)
      if type == .delete { appendSA2(mode: 2, to: &builder) }
      append(.source, source, to: &builder)
      append(.destination, destination, to: &builder)
    }
  }

  /// `direction`: 1 in, 2 out, 3 forward.
  static func policy(_ type: PFKeyMessageType, direction: UInt8) -> [UInt8] {
    let out = direction == 2
    let (near, far): (IPAddress, IPAddress) = (out ? a : b, out ? b : a)
    return PFKeyProbe.message(type, nil, sequence: 7) { builder in
      appendSA2(mode: 0, to: &builder)
      let networks: [(PFKeyExtensionType, IPAddress)] = [
        (.source, out ? "10.9.1.0" : "10.9.2.0"), (.destination, out ? "10.9.2.0" : "10.9.1.0"),
      ]
      for (type, network) in networks {
        builder.pfkeyExtension(type) {
          PFKeyAddress(network, prefixLength: 24, ipProtocol: 255).encode(into: &$0, dialect: .linux)
        }
      }
      builder.pfkeyExtension(.policy) { builder in
        builder.append(UInt16(2))
        builder.append(direction)
        builder.zeros(1 + 4 + 4)
        builder.append(UInt16(48))
        builder.append(UInt16(50))
        builder.append(bytes: [2, 2, 0, 0])
        builder.zeros(8)
        PFKeyAddress.encode(near, port: 0, into: &builder, dialect: .linux)
        PFKeyAddress.encode(far, port: 0, into: &builder, dialect: .linux)
      }
    }
  }
}
