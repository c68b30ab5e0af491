import Engines

/// What is kept of the numbers of one key or SA when the gateway ends.
public struct NumberRecord: Equatable, Sendable {
  public enum Kind: UInt8, Sendable {
    /// The nonces of a counter-mode key that the operator chose: it may come back at any time, and is never forgotten.
    case staticNonces = 1
    /// The nonces of a counter-mode key that a key daemon agreed on with its peer, and does not agree on again.
    case sessionNonces = 2
    /// The sequence numbers of an outbound SA of `ipsec.conf` whose cipher makes no nonces of them.
    case numbers = 3
    /// The highest number that an inbound SA of `ipsec.conf` accepted.
    case window = 4
  }

  public var name: Fingerprint
  public var kind: Kind
  /// Up to here numbers may have been used.
  public var number: UInt64

  public init(name: Fingerprint, kind: Kind, number: UInt64) {
    self.name = name
    self.kind = kind
    self.number = number
  }
}

/// Where numbers are reserved before they are used. Control thread.
public protocol NumberJournal: AnyObject {
  /// Records that it holds, old ones of the same name counted.
  var recordCount: Int { get }
  /// False: it takes nothing until it is written anew.
  var takesMore: Bool { get }
  /// They survive this process when it returns; with `isSynced` the machine, too. With an error none of them counts.
  func append(_ records: [NumberRecord], isSynced: Bool) throws(NumberJournalError)
  /// Writes it anew, with these alone.
  func replace(_ records: [NumberRecord]) throws(NumberJournalError)
}

/// Why nothing could be reserved, in words.
public struct NumberJournalError: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
