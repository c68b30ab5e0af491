/// An identity bound to a flow or SA, as PF_KEY's sadb_ident has them.
public struct Identity: Hashable, Sendable {
  public enum Kind: UInt16, Sendable, Hashable {
    case reserved = 0
    case prefix = 1
    case fqdn = 2
    case ufqdn = 3
    case asn1DN = 4
  }
  public var kind: Kind
  public var text: String
  public init(kind: Kind, text: String) {
    self.kind = kind
    self.text = text
  }
}
