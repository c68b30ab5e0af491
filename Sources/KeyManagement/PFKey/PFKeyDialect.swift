import IPsec
import Wire

/// Whose numbers a PF_KEY socket speaks: they are the same up to RFC 2367's and differ above.
public enum PFKeyDialect: UInt8, Sendable, CaseIterable {
  /// linux/pfkeyv2.h, KAME's.
  case linux = 1
  /// OpenBSD's net/pfkeyv2.h; its socket addresses begin with a length.
  case openBSD = 2

  func saProtocol(_ type: UInt8) -> SAProtocol? {
    switch (self, type) {
    case (.linux, 2), (.openBSD, 1): .ah
    case (.linux, 3), (.openBSD, 2): .esp
    case (.openBSD, 7): .ipip
    case (_, 9): .ipcomp
    default: nil
    }
  }

  /// 0 where the dialect has no number.
  func saType(_ saProtocol: SAProtocol) -> UInt8 {
    switch saProtocol {
    case .ah: self == .linux ? 2 : 1
    case .esp: self == .linux ? 3 : 2
    case .ipip: self == .linux ? 0 : 7
    case .ipcomp: 9
    }
  }

  /// AF_INET6.
  var v6Family: UInt8 { self == .linux ? 10 : 24 }
}

/// The messages of both dialects.
public enum PFKeyMessageType: Sendable, Hashable, CaseIterable {
  case getSPI, update, add, delete, get, acquire, register, expire, flush, dump, promiscuous
  case policyChange, policyUpdate, policyAdd, policyDelete, policyGet, policyAcquire, policyDump, policyFlush
  case policySetIndex, policyExpire, policyDeleteByID, natMapping, migrate
  case addFlow, deleteFlow, groupSPIs, askPolicy

  /// RFC 2367's, from 1 on.
  private static let common: [PFKeyMessageType] = [
    .getSPI, .update, .add, .delete, .get, .acquire, .register, .expire, .flush, .dump, .promiscuous,
  ]
  /// From 12 on.
  private static let linux: [PFKeyMessageType] = [
    .policyChange, .policyUpdate, .policyAdd, .policyDelete, .policyGet, .policyAcquire, .policyDump, .policyFlush,
    .policySetIndex, .policyExpire, .policyDeleteByID, .natMapping, .migrate,
  ]
  private static let openBSD: [PFKeyMessageType] = [.addFlow, .deleteFlow, .groupSPIs, .askPolicy, .policyDump]

  private static func all(_ dialect: PFKeyDialect) -> [PFKeyMessageType] {
    common + (dialect == .linux ? linux : openBSD)
  }

  init?(_ number: UInt8, _ dialect: PFKeyDialect) {
    let all = Self.all(dialect)
    guard number >= 1, Int(number) <= all.count else { return nil }
    self = all[Int(number) - 1]
  }

  /// 0 where the dialect has no such message.
  public func number(_ dialect: PFKeyDialect) -> UInt8 {
    UInt8((Self.all(dialect).firstIndex(of: self) ?? -1) + 1)
  }
}

/// The extensions of both dialects. RFC 2367's and Linux's by their numbers; OpenBSD's own by theirs and 64.
public enum PFKeyExtensionType: UInt8, Sendable, Hashable, CaseIterable, Comparable {
  case sa = 1
  case lifetimeCurrent, lifetimeHard, lifetimeSoft, source, destination, proxy, authenticationKey, encryptionKey
  case identitySource, identityDestination, sensitivity, proposal, supportedAuthentication, supportedEncryption
  case spiRange
  // Linux
  case kmPrivate, policy, sa2, natType, natSourcePort, natDestinationPort, natOriginalAddress, securityContext
  case kmAddress, filter
  // OpenBSD
  case sourceMask = 81
  case destinationMask, flowProtocol, flowType, sourceFlow, destinationFlow, secondSA, secondDestination
  case askedPolicy, localCredentials, remoteCredentials, localAuthentication, remoteAuthentication
  case supportedCompression, udpEncapsulation, lastUse, tag, tap, secondSAType, counter, routingDomain, mtu, replay
  case interface

  private static let lastCommon: UInt8 = 16
  private static let openBSDOffset: UInt8 = 64

  init?(_ number: UInt16, _ dialect: PFKeyDialect) {
    guard number > 0, number < 64 else { return nil }
    let own = UInt8(number)
    let raw = own > Self.lastCommon && dialect == .openBSD ? own + Self.openBSDOffset : own
    self.init(rawValue: raw)
  }

  /// On the wire.
  var number: UInt16 { UInt16(rawValue > Self.openBSDOffset ? rawValue - Self.openBSDOffset : rawValue) }

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}
