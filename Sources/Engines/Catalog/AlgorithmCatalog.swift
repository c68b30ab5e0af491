/// The catalogue of algorithms: a row each, from which every table, parser and printer is made. The switches are
/// exhaustive, so an algorithm without a row does not compile. The words of `ipsec.conf` that name an algorithm together
/// with its key's length are in `TransformTables.swift` of ConfigurationFiles, a row each as well.

extension EncryptionAlgorithm {
  /// What kind of cipher it is.
  public enum Mode: Sendable {
    /// Nothing is encrypted.
    case null
    /// Cipher block chaining with a random IV.
    case chaining
    /// A key stream from a counter; needs an integrity algorithm beside it.
    case counter
    /// Encrypts and authenticates in one.
    case aead
  }

  /// All that is known about an algorithm, but for the engines that run it.
  public struct Row: Sendable {
    /// The RFC that defines its use in ESP.
    public let rfc: Int
    public let mode: Mode
    /// Bytes of key material, the salt included.
    public let keyLengths: [Int]
    /// Trailing bytes of the key material that are the nonce's salt.
    public var saltLength = 0
    /// Bytes of IV in each packet.
    public var ivLength = 0
    /// Bytes of ICV; 0 where an integrity algorithm stands beside it.
    public var icvLength = 0
    /// Bytes of nonce or IV that a job has.
    public var nonceLength = 0
    /// What the text's length must be a multiple of.
    public var blockLength = 1
    /// In the control API.
    public let name: String
    /// As `ipsecctl -s sa` prints it; `*` stands for the key's bits.
    public let ipsecctl: String
    /// The same for a key of 128 bits, where OpenBSD has a shorter word for that.
    public var ipsecctl128: String?
    /// In the extension lines of `ipsecctl -v`: `enc`, and for an AEAD `auth`.
    public let extensionWord: String
    public var extensionIntegrity: String?
    /// XFRM's names; the first is the one that is given out.
    public let xfrm: [String]
    /// PF_KEY's number on Linux; nil: it has none.
    public var pfkeyLinux: UInt8?
    /// PF_KEY's number on OpenBSD; nil: it has none.
    public var pfkeyOpenBSD: UInt8?

    /// What payload, padding, pad length and next header together are a multiple of (RFC 4303 2.4).
    public var alignment: Int { max(4, blockLength) }
  }

  /// In the order of the cases.
  private static let rows = allCases.map(row)

  /// This algorithm's row. For the control thread: it holds arrays.
  public var row: Row { Self.rows[Int(rawValue)] }

  private static func row(_ algorithm: Self) -> Row {
    switch algorithm {
    case .null:
      Row(
        rfc: 2410, mode: .null, keyLengths: [0], name: "null", ipsecctl: "null", extensionWord: "null",
        xfrm: ["ecb(cipher_null)", "cipher_null"], pfkeyLinux: 11, pfkeyOpenBSD: 11)
    case .aesCBC:
      Row(
        rfc: 3602, mode: .chaining, keyLengths: [16, 24, 32], ivLength: 16, nonceLength: 16, blockLength: 16,
        name: "aes-cbc", ipsecctl: "aes-*", ipsecctl128: "aes", extensionWord: "aes", xfrm: ["cbc(aes)", "aes"],
        pfkeyLinux: 12, pfkeyOpenBSD: 12)
    case .aesCTR:
      Row(
        rfc: 3686, mode: .counter, keyLengths: [20, 28, 36], saltLength: 4, ivLength: 8, nonceLength: 16,
        name: "aes-ctr", ipsecctl: "aes-*-ctr", ipsecctl128: "aesctr", extensionWord: "aesctr",
        xfrm: ["rfc3686(ctr(aes))"], pfkeyLinux: 13, pfkeyOpenBSD: 13)
    case .aesGCM16: gcm(icv: 16, "", pfkey: 20)
    case .aesGCM12: gcm(icv: 12, "-12", pfkey: 19)
    case .aesGCM8: gcm(icv: 8, "-8", pfkey: 18)
    case .aesCCM16: ccm(icv: 16, "", pfkey: 16)
    case .aesCCM12: ccm(icv: 12, "-12", pfkey: 15)
    case .aesCCM8: ccm(icv: 8, "-8", pfkey: 14)
    case .aesGMAC:
      // ENCR_NULL_AUTH_AES_GMAC: nothing is encrypted, everything is authenticated.
      Row(
        rfc: 4543, mode: .aead, keyLengths: [20, 28, 36], saltLength: 4, ivLength: 8, icvLength: 16, nonceLength: 12,
        name: "aes-gmac", ipsecctl: "aes-*-gmac", extensionWord: "aes-gmac", extensionIntegrity: "gmac-aes-*",
        xfrm: ["rfc4543(gcm(aes))"], pfkeyLinux: 23, pfkeyOpenBSD: 21)
    case .chacha20Poly1305:
      Row(
        rfc: 7634, mode: .aead, keyLengths: [36], saltLength: 4, ivLength: 8, icvLength: 16, nonceLength: 12,
        name: "chacha20-poly1305", ipsecctl: "chacha20-poly1305", extensionWord: "chacha20-poly1305",
        extensionIntegrity: "chacha20-poly1305", xfrm: ["rfc7539esp(chacha20,poly1305)"], pfkeyOpenBSD: 22)
    case .tripleDESCBC:
      Row(
        rfc: 2451, mode: .chaining, keyLengths: [24], ivLength: 8, nonceLength: 8, blockLength: 8, name: "3des-cbc",
        ipsecctl: "3des-cbc", extensionWord: "3des-cbc", xfrm: ["cbc(des3_ede)", "des3_ede"], pfkeyLinux: 3,
        pfkeyOpenBSD: 3)
    case .camelliaCBC:
      Row(
        rfc: 4312, mode: .chaining, keyLengths: [16, 24, 32], ivLength: 16, nonceLength: 16, blockLength: 16,
        name: "camellia-cbc", ipsecctl: "camellia-*", ipsecctl128: "camellia", extensionWord: "camellia",
        xfrm: ["cbc(camellia)", "camellia"], pfkeyLinux: 22)
    }
  }

  /// RFC 4106.
  private static func gcm(icv: Int, _ suffix: String, pfkey: UInt8) -> Row {
    Row(
      rfc: 4106, mode: .aead, keyLengths: [20, 28, 36], saltLength: 4, ivLength: 8, icvLength: icv, nonceLength: 12,
      name: "aes-gcm-\(icv)", ipsecctl: "aes-*-gcm\(suffix)", extensionWord: "aes-gcm\(suffix)",
      extensionIntegrity: "gmac-aes-*", xfrm: ["rfc4106(gcm(aes))"], pfkeyLinux: pfkey, pfkeyOpenBSD: pfkey)
  }

  /// RFC 4309.
  private static func ccm(icv: Int, _ suffix: String, pfkey: UInt8) -> Row {
    Row(
      rfc: 4309, mode: .aead, keyLengths: [19, 27, 35], saltLength: 3, ivLength: 8, icvLength: icv, nonceLength: 11,
      name: "aes-ccm-\(icv)", ipsecctl: "aes-*-ccm\(suffix)", extensionWord: "aes-ccm\(suffix)",
      extensionIntegrity: "cbc-mac-aes-*", xfrm: ["rfc4309(ccm(aes))"], pfkeyLinux: pfkey)
  }
}

extension AuthenticationAlgorithm {
  /// All that is known about an algorithm, but for the engines that run it.
  public struct Row: Sendable {
    /// The RFC that defines its use in ESP and AH.
    public let rfc: Int
    /// Bytes of key material, the salt included.
    public let keyLengths: [Int]
    /// Trailing bytes of the key material that are the nonce's salt.
    public var saltLength = 0
    /// Bytes of ICV on the wire, without GMAC's IV.
    public let icvLength: Int
    /// RFC 8221 6 says MUST NOT.
    public var isWeak = false
    /// In the control API, in `ipsec.conf` and as `ipsecctl` prints it.
    public let name: String
    /// XFRM's names; the first is the one that is given out. None: XFRM has no name for it.
    public var xfrm: [String] = []
    /// Bits of ICV that the kernel takes where ALG_AUTH gives none.
    public var xfrmDefaultICVBits = 96
    /// PF_KEY's number on Linux; nil: it has none.
    public var pfkeyLinux: UInt8?
    /// PF_KEY's number on OpenBSD; nil: it has none.
    public var pfkeyOpenBSD: UInt8?
  }

  /// In the order of the cases.
  private static let rows = allCases.map(row)

  /// This algorithm's row. For the control thread: it holds arrays.
  public var row: Row { Self.rows[Int(rawValue)] }

  private static func row(_ algorithm: Self) -> Row {
    switch algorithm {
    case .hmacMD5:
      Row(
        rfc: 2403, keyLengths: [16], icvLength: 12, isWeak: true, name: "hmac-md5", xfrm: ["hmac(md5)", "md5"],
        pfkeyLinux: 2, pfkeyOpenBSD: 2)
    case .hmacSHA1:
      Row(
        rfc: 2404, keyLengths: [20], icvLength: 12, name: "hmac-sha1", xfrm: ["hmac(sha1)", "sha1"], pfkeyLinux: 3,
        pfkeyOpenBSD: 3)
    case .hmacSHA256:
      // Linux's default ICV is that of a draft before RFC 4868, and is refused.
      Row(
        rfc: 4868, keyLengths: [32], icvLength: 16, name: "hmac-sha2-256", xfrm: ["hmac(sha256)", "sha256"],
        pfkeyLinux: 5, pfkeyOpenBSD: 5)
    case .hmacSHA384:
      Row(
        rfc: 4868, keyLengths: [48], icvLength: 24, name: "hmac-sha2-384", xfrm: ["hmac(sha384)"],
        xfrmDefaultICVBits: 192, pfkeyLinux: 6, pfkeyOpenBSD: 6)
    case .hmacSHA512:
      Row(
        rfc: 4868, keyLengths: [64], icvLength: 32, name: "hmac-sha2-512", xfrm: ["hmac(sha512)"],
        xfrmDefaultICVBits: 256, pfkeyLinux: 7, pfkeyOpenBSD: 7)
    case .aesXCBC:
      Row(rfc: 3566, keyLengths: [16], icvLength: 12, name: "aes-xcbc", xfrm: ["xcbc(aes)"], pfkeyLinux: 9)
    case .aesCMAC: Row(rfc: 4494, keyLengths: [16], icvLength: 12, name: "aes-cmac", xfrm: ["cmac(aes)"])
    case .aesGMAC:
      // AUTH_AES_*_GMAC for AH: an IV of 8 bytes leads the ICV.
      Row(rfc: 4543, keyLengths: [20, 28, 36], saltLength: 4, icvLength: 16, name: "aes-gmac")
    }
  }
}
