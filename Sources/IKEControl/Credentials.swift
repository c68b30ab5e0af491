import COpenSSL
import Engines
import Foundation
import IPsec

/// Certificates and keys of a folder laid out as OpenBSD's /etc/isakmpd and /etc/iked:
///
///     ca/         certificates of authorities
///     certs/      certificates of this gateway and of peers
///     private/    private keys (local.key)
///     pubkeys/    raw public keys, by identity: ipv4/ADDRESS, ipv6/ADDRESS, fqdn/NAME, ufqdn/NAME
///     local.pub   the gateway's own public key, where it has no certificate
public struct Credentials: Sendable, Equatable {
  public struct Item: Sendable, Equatable {
    public var path: String
    public var content: SecretBytes
  }

  /// A VICI value holds no more.
  public static let fileLimit = 65535
  public static let countLimit = 10_000

  public private(set) var authorities: [Item] = []
  public private(set) var certificates: [Item] = []
  public private(set) var privateKeys: [Item] = []
  /// What could not be read, and what others can read though they should not.
  public private(set) var problems: [String] = []
  private let folder: String

  public init(folder: String) {
    self.folder = folder
    authorities = items("ca")
    certificates = items("certs")
    privateKeys = items("private", isSecret: true)
  }

  public var isEmpty: Bool { authorities.isEmpty && certificates.isEmpty && privateKeys.isEmpty }

  /// The raw public key of an identity; nil: of the gateway itself, where it has no certificate.
  public func publicKey(of identity: Identity?) -> [UInt8]? {
    guard let identity else { return certificates.isEmpty ? bytes(folder + "/local.pub") : nil }
    let kind: String
    switch identity.kind {
    case .prefix: kind = identity.text.contains(":") ? "ipv6" : "ipv4"
    case .ufqdn: kind = "ufqdn"
    case .fqdn: kind = "fqdn"
    case .reserved, .asn1DN: return nil
    }
    let name = String(identity.text.prefix { $0 != "/" })
    guard !name.isEmpty, name != ".", name != ".." else { return nil }
    return bytes("\(folder)/pubkeys/\(kind)/\(name)")
  }

  private func bytes(_ path: String) -> [UInt8]? {
    guard let data = FileManager.default.contents(atPath: path), data.count <= Self.fileLimit else { return nil }
    return Array(data)
  }

  private mutating func items(_ kind: String, isSecret: Bool = false) -> [Item] {
    let folder = "\(folder)/\(kind)"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    var items: [Item] = []
    for name in names.sorted().prefix(Self.countLimit) where !name.hasPrefix(".") {
      let path = "\(folder)/\(name)"
      var status = stat()
      guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      guard status.st_size > 0, status.st_size <= Self.fileLimit else {
        problems.append("\(path): \(status.st_size) bytes are no certificate and no key")
        continue
      }
      // The group is that of the user who runs gwd.
      if isSecret && status.st_mode & 0o037 != 0 { problems.append("\(path): others can read this private key") }
      guard var data = FileManager.default.contents(atPath: path) else {
        problems.append("\(path): \(String(cString: strerror(errno)))")
        continue
      }
      items += isSecret ? [Item(path: path, content: SecretBytes(data))] : Self.certificates(path, data)
      data.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
    }
    return items
  }

  /// A PEM file may hold several.
  private static func certificates(_ path: String, _ data: Data) -> [Item] {
    let end = "-----END CERTIFICATE-----"
    guard let text = String(data: data, encoding: .utf8), text.contains(end) else {
      return [Item(path: path, content: SecretBytes(data))]
    }
    return text.components(separatedBy: end).dropLast().map {
      Item(
        path: path,
        content: SecretBytes(Array(($0.trimmingCharacters(in: .whitespacesAndNewlines) + "\n" + end + "\n").utf8)))
    }
  }
}
