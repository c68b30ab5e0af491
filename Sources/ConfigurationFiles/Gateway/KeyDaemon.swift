/// `ike` of gateway.yaml: the key daemon that carries out the `ike` rules of ipsec.conf.
public struct KeyDaemon: Sendable, Equatable {
  /// `none`: the rules are read and left alone.
  public enum Kind: String, Sendable, Codable, CaseIterable { case charon, iked, none }

  /// The version of IKE that charon speaks; `any` begins with 2 and answers both. iked has version 2 alone.
  public enum Version: String, Sendable, Codable, CaseIterable {
    case v1 = "1"
    case v2 = "2"
    case any
  }

  public var kind = Kind.charon
  /// charon's VICI socket.
  public var vici = "/run/charon.vici"
  /// iked's control socket.
  public var control = "/run/iked.sock"
  public var version = Version.v2
  /// Certificates and keys, laid out as in /etc/isakmpd: `ca`, `certs`, `private`, `pubkeys/{ipv4,ipv6,fqdn,ufqdn}`.
  public var credentials = "/etc/gw/ike"
  public init() {}
}
