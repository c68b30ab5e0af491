import IPsec
import Wire

@testable import KeyManagement

/// The messages of charon 5.9.8 as a kernel would get them, rebuilt from decoded traces of a real run.
enum Charon {
  static let a: IPAddress = "10.9.0.1"
  static let b: IPAddress = "10.9.0.2"

  static func info(
    _ spi: UInt32, from source: IPAddress, to destination: IPAddress, soft: (UInt64, UInt64)
  ) -> XFRMSAInfo {
    var info = XFRMSAInfo()
    info.source = XFRMAddress(source)
    info.destination = XFRMAddress(destination)
    info.spi = spi
    info.ipProtocol = 50
    info.family = 2
    info.mode = 1
    info.requestID = 1
    info.flags = [.anyFamily, .esn]
    info.limits.softBytes = soft.0
    info.limits.hardBytes = 1_100_000_000
    info.limits.softAdd = soft.1
    info.limits.hardAdd = 3960
    return info
  }

  static func gcmKey(_ seed: UInt32) -> [UInt8] {
    (0..<36).map { UInt8(truncatingIfNeeded: $0 < 4 ? seed >> (8 * $0) : seed &+ $0) }
  }

  static func appendGCM(_ builder: inout ByteBuilder, seed: UInt32, window: UInt32) {
    builder.attribute(.aead) { builder in
      builder.append("rfc4106(gcm(aes))", size: 64)
      builder.append(UInt32(288))
      builder.append(UInt32(128))
      builder.append(bytes: gcmKey(seed))
    }
    builder.attribute(.replayESNValue) { builder in
      for word in [1, 0, 0, 0, 0, window, 0] as [UInt32] { builder.append(word) }
    }
  }

  /// The outbound policy and its SAs to a peer that has moved.
  static func appendMigration(_ builder: inout ByteBuilder, requestID: UInt32 = 1) {
    var id = XFRMPolicyID()
    (id.selector, id.direction) = (selector(1), 1)
    id.encode(into: &builder)
    builder.attribute(.migrate) { builder in
      var move = XFRMMigration()
      (move.oldSource, move.oldDestination) = (XFRMAddress(a), XFRMAddress(b))
      (move.newSource, move.newDestination) = (XFRMAddress(a), XFRMAddress("10.9.0.9"))
      (move.ipProtocol, move.mode, move.requestID, move.oldFamily, move.newFamily) = (50, 1, requestID, 2, 2)
      move.encode(into: &builder)
    }
  }

  static func allocateSPI() -> [UInt8] {
    XFRMProbe.message(.allocateSPI, flags: .request, sequence: 203) { builder in
      var info = XFRMSAInfo()
      info.source = XFRMAddress(b)
      info.destination = XFRMAddress(a)
      info.ipProtocol = 50
      info.family = 2
      info.mode = 1
      info.limits.softBytes = 0
      info.limits.hardBytes = 0
      info.limits.softPackets = 0
      info.limits.hardPackets = 0
      info.encode(into: &builder)
      builder.append(UInt32(0xc000_0000))
      builder.append(UInt32(0xcfff_ffff))
    }
  }

  static func updateSA(_ spi: UInt32) -> [UInt8] {
    XFRMProbe.message(.updateSA, sequence: 204) { builder in
      info(spi, from: b, to: a, soft: (975_671_044, 3284)).encode(into: &builder)
      appendGCM(&builder, seed: 1, window: 32)
    }
  }

  static func newSA(_ spi: UInt32, seed: UInt32 = 2) -> [UInt8] {
    XFRMProbe.message(.newSA, sequence: 205) { builder in
      info(spi, from: a, to: b, soft: (928_959_188, 3352)).encode(into: &builder)
      appendGCM(&builder, seed: seed, window: 1)
    }
  }

  static func selector(_ direction: UInt8) -> XFRMSelector {
    let (one, two): (IPPrefix, IPPrefix) = ("10.9.1.0/24", "10.9.2.0/24")
    return XFRMSelector(
      direction == 1 ? Selector(source: one, destination: two) : Selector(source: two, destination: one))
  }

  static func policy(_ type: XFRMMessageType, direction: UInt8, spi: UInt32 = 0) -> [UInt8] {
    XFRMProbe.message(type, sequence: 206 + UInt32(direction)) { builder in
      var info = XFRMPolicyInfo()
      info.selector = selector(direction)
      info.priority = 375_423
      info.direction = direction
      info.encode(into: &builder)
      builder.attribute(.templates) { builder in
        let out = direction == 1
        let template = SATemplate(
          source: out ? a : b, destination: out ? b : a, requestID: 1, spi: spi)
        XFRMTemplate(template, isOptional: false).encode(into: &builder)
      }
    }
  }

  static func policyID(_ type: XFRMMessageType, direction: UInt8) -> [UInt8] {
    XFRMProbe.message(type) { builder in
      var id = XFRMPolicyID()
      id.selector = selector(direction)
      id.direction = direction
      id.encode(into: &builder)
    }
  }

  static func id(_ type: XFRMMessageType, _ spi: UInt32, to destination: IPAddress) -> [UInt8] {
    XFRMProbe.message(type) { builder in
      var id = XFRMSAID()
      id.destination = XFRMAddress(destination)
      id.spi = spi
      id.family = 2
      id.ipProtocol = 50
      id.encode(into: &builder)
    }
  }
}
