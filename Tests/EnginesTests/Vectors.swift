@testable import Engines

/// A published vector; hexadecimal throughout. Keys include the salt.
struct Vector {
  let source: String
  let encryption: EncryptionAlgorithm
  let encryptionKey: String
  let authentication: AuthenticationAlgorithm?
  let authenticationKey: String
  /// What stands before the IV: authenticated by MACs.
  var header = ""
  var iv = ""
  var nonce = ""
  var aad = ""
  var text = ""
  var sealed = ""
  var icv = ""

  init(
    _ source: String, _ encryption: EncryptionAlgorithm, _ key: String, nonce: String, header: String = "",
    iv: String = "", aad: String = "", text: String, sealed: String, icv: String = ""
  ) {
    self.source = source
    self.encryption = encryption
    encryptionKey = key
    authentication = nil
    authenticationKey = ""
    (self.header, self.iv, self.nonce, self.aad) = (header, iv, nonce, aad)
    (self.text, self.sealed, self.icv) = (text, sealed, icv)
  }

  init(
    _ source: String, _ authentication: AuthenticationAlgorithm, _ key: String, nonce: String = "", header: String,
    icv: String
  ) {
    self.source = source
    encryption = .null
    encryptionKey = ""
    self.authentication = authentication
    authenticationKey = key
    (self.nonce, self.header, self.icv) = (nonce, header, icv)
  }

  static func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.compactMap { $0.hexDigitValue }
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }

  var transform: CryptoTransform {
    CryptoTransform(
      encryption: encryption, encryptionKey: SecretBytes(Self.bytes(encryptionKey)), authentication: authentication,
      authenticationKey: SecretBytes(Self.bytes(authenticationKey)))
  }

  var packet: TestPacket {
    TestPacket(
      header: Self.bytes(header), aad: Self.bytes(aad), iv: Self.bytes(iv), nonce: Self.bytes(nonce),
      text: Self.bytes(text), icv: [UInt8](repeating: 0, count: transform.icvLength))
  }

  static let all: [Vector] = [
    Vector(
      "RFC 3602 section 4, case 1", .aesCBC,
      "06a9214036b8a15b512e03d534120006",
      nonce: "3dafba429d9eb430b422da802c9fac41",
      text: "53696e676c6520626c6f636b206d7367",
      sealed: "e353779c1079aeb82708942dbe77181a"),
    Vector(
      "RFC 3602 section 4, case 2", .aesCBC,
      "c286696d887c9aa0611bbb3e2025a45a",
      nonce: "562e17996d093d28ddb3ba695a2e6f58",
      text: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
      sealed: "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"),
    Vector(
      "RFC 3602 section 4, case 3", .aesCBC,
      "6c3ea0477630ce21a2ce334aa746c2cd",
      nonce: "c782dc4c098c66cbd9cd27d825682c81",
      text: "5468697320697320612034382d62797465206d657373616765202865786163746c7920332041455320626c6f636b7329",
      sealed: "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684"),
    Vector(
      "RFC 3602 section 4, case 4", .aesCBC,
      "56e47a38c5598974bc46903dba290349",
      nonce: "8ce82eefbea0da3c44699ed7db51b7d9",
      text:
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
        + "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
      sealed:
        "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad"
        + "83ce9f9a102ee99d49a53e87f4c3da55"),
    Vector(
      "NIST SP 800-38A F.2.3", .aesCBC,
      "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
      nonce: "000102030405060708090a0b0c0d0e0f",
      text:
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef"
        + "f69f2445df4f9b17ad2b417be66c3710",
      sealed:
        "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e0"
        + "08b0e27988598881d920a9e64f5615cd"),
    Vector(
      "NIST SP 800-38A F.2.5", .aesCBC,
      "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
      nonce: "000102030405060708090a0b0c0d0e0f",
      text:
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef"
        + "f69f2445df4f9b17ad2b417be66c3710",
      sealed:
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461"
        + "b2eb05e2c39be9fcda6c19078c6a9d1b"),
    Vector(
      "RFC 3686 section 6, vector #1", .aesCTR,
      "ae6852f8121067cc4bf7a5765577f39e00000030",
      nonce: "00000030000000000000000000000001",
      text: "53696e676c6520626c6f636b206d7367",
      sealed: "e4095d4fb7a7b3792d6175a3261311b8"),
    Vector(
      "RFC 3686 section 6, vector #2", .aesCTR,
      "7e24067817fae0d743d6ce1f32539163006cb6db",
      nonce: "006cb6dbc0543b59da48d90b00000001",
      text: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
      sealed: "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"),
    Vector(
      "RFC 3686 section 6, vector #3", .aesCTR,
      "7691be035e5020a8ac6e618529f9a0dc00e0017b",
      nonce: "00e0017b27777f3f4a1786f000000001",
      text: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
      sealed: "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f"),
    Vector(
      "RFC 3686 section 6, vector #4", .aesCTR,
      "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb7851500000048",
      nonce: "0000004836733c147d6d93cb00000001",
      text: "53696e676c6520626c6f636b206d7367",
      sealed: "4b55384fe259c9c84e7935a003cbe928"),
    Vector(
      "RFC 3686 section 6, vector #7", .aesCTR,
      "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c10400000060",
      nonce: "00000060db5672c97aa8f0b200000001",
      text: "53696e676c6520626c6f636b206d7367",
      sealed: "145ad01dbf824ec7560863dc71e3e0c0"),
    Vector(
      "NIST SP 800-67 appendix B, a block", .tripleDESCBC,
      "0123456789abcdef23456789abcdef01456789abcdef0123",
      nonce: "0000000000000000",
      text: "5468652071756663",
      sealed: "a826fd8ce53b855f"),
    Vector(
      "NIST SP 800-67 appendix B, a block", .tripleDESCBC,
      "0123456789abcdef23456789abcdef01456789abcdef0123",
      nonce: "0000000000000000",
      text: "6b2062726f776e20",
      sealed: "cce21c8112256fe6"),
    Vector(
      "NIST SP 800-67 appendix B, a block", .tripleDESCBC,
      "0123456789abcdef23456789abcdef01456789abcdef0123",
      nonce: "0000000000000000",
      text: "666f78206a756d70",
      sealed: "68d5c05dd9b6b900"),
    Vector(
      "RFC 3713 appendix A", .camelliaCBC,
      "0123456789abcdeffedcba9876543210",
      nonce: "00000000000000000000000000000000",
      text: "0123456789abcdeffedcba9876543210",
      sealed: "67673138549669730857065648eabe43"),
    Vector(
      "RFC 3713 appendix A", .camelliaCBC,
      "0123456789abcdeffedcba98765432100011223344556677",
      nonce: "00000000000000000000000000000000",
      text: "0123456789abcdeffedcba9876543210",
      sealed: "b4993401b3e996f84ee5cee7d79b09b9"),
    Vector(
      "RFC 3713 appendix A", .camelliaCBC,
      "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff",
      nonce: "00000000000000000000000000000000",
      text: "0123456789abcdeffedcba9876543210",
      sealed: "9acc237dff16d76c20ef7c919e3a7509"),
    Vector(
      "RFC 2202 section 2, case 1", .hmacMD5,
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      header: "4869205468657265",
      icv: "9294727a3638bb1c13f48ef8"),
    Vector(
      "RFC 2202 section 2, case 3", .hmacMD5,
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      header:
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        + "dddd",
      icv: "56be34521d144c88dbb8c733"),
    Vector(
      "RFC 2202 section 3, case 1", .hmacSHA1,
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      header: "4869205468657265",
      icv: "b617318655057264e28bc0b6"),
    Vector(
      "RFC 2202 section 3, case 3", .hmacSHA1,
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      header:
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        + "dddd",
      icv: "125d7342b9ac11cd91a39af4"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH256-1", .hmacSHA256,
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      header: "4869205468657265",
      icv: "198a607eb44bfbc69903a0f1cf2bbdc5"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH256-2", .hmacSHA256,
      "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
      header: "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
      icv: "167f928588c5cc2eef8e3093caa0e87c"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH256-3", .hmacSHA256,
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      header:
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        + "dddd",
      icv: "cdcb1220d1ecccea91e53aba3092f962"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH384-1", .hmacSHA384,
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      header: "4869205468657265",
      icv: "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH384-2", .hmacSHA384,
      "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
      header: "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
      icv: "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH384-3", .hmacSHA384,
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      header:
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        + "dddd",
      icv: "809f439be00274321d4a538652164b53554a508184a0c316"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH512-1", .hmacSHA512,
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
        + "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      header: "4869205468657265",
      icv: "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH512-2", .hmacSHA512,
      "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665"
        + "4a6566654a6566654a6566654a656665",
      header: "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
      icv: "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"),
    Vector(
      "RFC 4868 section 2.7.2, AUTH512-3", .hmacSHA512,
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      header:
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
        + "dddd",
      icv: "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"),
    Vector(
      "RFC 3566 section 4.6, case 2", .aesXCBC,
      "000102030405060708090a0b0c0d0e0f",
      header: "000102",
      icv: "5b376580ae2f19afe7219cee"),
    Vector(
      "RFC 3566 section 4.6, case 3", .aesXCBC,
      "000102030405060708090a0b0c0d0e0f",
      header: "000102030405060708090a0b0c0d0e0f",
      icv: "d2a246fa349b68a79998a439"),
    Vector(
      "RFC 3566 section 4.6, case 4", .aesXCBC,
      "000102030405060708090a0b0c0d0e0f",
      header: "000102030405060708090a0b0c0d0e0f10111213",
      icv: "47f51b4564966215b8985c63"),
    Vector(
      "RFC 3566 section 4.6, case 5", .aesXCBC,
      "000102030405060708090a0b0c0d0e0f",
      header: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
      icv: "f54f0ec8d2b9f3d36807734b"),
    Vector(
      "RFC 3566 section 4.6, case 6", .aesXCBC,
      "000102030405060708090a0b0c0d0e0f",
      header: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021",
      icv: "becbb3bccdb518a30677d548"),
    Vector(
      "RFC 4494 section 4, case 2", .aesCMAC,
      "2b7e151628aed2a6abf7158809cf4f3c",
      header: "6bc1bee22e409f96e93d7e117393172a",
      icv: "070a16b46b4d4144f79bdd9d"),
    Vector(
      "RFC 4494 section 4, case 3", .aesCMAC,
      "2b7e151628aed2a6abf7158809cf4f3c",
      header: "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411",
      icv: "dfa66747de9ae63030ca3261"),
    Vector(
      "RFC 4494 section 4, case 4", .aesCMAC,
      "2b7e151628aed2a6abf7158809cf4f3c",
      header:
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef"
        + "f69f2445df4f9b17ad2b417be66c3710",
      icv: "51f0bebf7e3b9d92fc497417"),
    Vector(
      "draft-mcgrew-gcm-test-01, 64 bit sequence number", .aesGCM16,
      "4c80cdefbb5d10da906ac73c3613a6342e443b68",
      nonce: "2e443b684956ed7e3b244cfe",
      aad: "000043218765432100000000",
      text:
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f7564700373"
        + "69700963796265726369747902646b000021000101020201",
      sealed:
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d"
        + "15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
      icv: "459018148f6cbe722fd04796562dfdb4"),
    Vector(
      "draft-mcgrew-gcm-test-01, 64 bit sequence number, ICV truncated", .aesGCM12,
      "4c80cdefbb5d10da906ac73c3613a6342e443b68",
      nonce: "2e443b684956ed7e3b244cfe",
      aad: "000043218765432100000000",
      text:
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f7564700373"
        + "69700963796265726369747902646b000021000101020201",
      sealed:
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d"
        + "15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
      icv: "459018148f6cbe722fd04796"),
    Vector(
      "draft-mcgrew-gcm-test-01, 64 bit sequence number, ICV truncated", .aesGCM8,
      "4c80cdefbb5d10da906ac73c3613a6342e443b68",
      nonce: "2e443b684956ed7e3b244cfe",
      aad: "000043218765432100000000",
      text:
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f7564700373"
        + "69700963796265726369747902646b000021000101020201",
      sealed:
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d"
        + "15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
      icv: "459018148f6cbe72"),
    Vector(
      "draft-mcgrew-gcm-test-01", .aesGCM16,
      "feffe9928665731c6d6a8f9467308308cafebabe",
      nonce: "cafebabefacedbaddecaf888",
      aad: "0000a5f80000000a",
      text:
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637962"
        + "65726369747902646b00000100010001",
      sealed:
        "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642"
        + "cfbb85a5b47e48a4ec3b9ba95d918bd1",
      icv: "83b70d3aa8bc6ee4c309e9d85a41ad4a"),
    Vector(
      "draft-mcgrew-gcm-test-01", .aesGCM16,
      "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
      nonce: "112233440102030405060708",
      aad: "4a2cbfe300000002",
      text:
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010402"
        + "01020201",
      sealed:
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99d"
        + "ef842d8e",
      icv: "b335f4eecfdbf831824b4c4915956c96"),
    Vector(
      "McGrew and Viega, GCM, test case 3", .aesGCM16,
      "feffe9928665731c6d6a8f9467308308cafebabe",
      nonce: "cafebabefacedbaddecaf888",
      text:
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        + "b16aedf5aa0de657ba637b391aafd255",
      sealed:
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
        + "1ba30b396a0aac973d58e091473f5985",
      icv: "4d5c2af327cd64a62cf35abd2ba6fab4"),
    Vector(
      "McGrew and Viega, GCM, test case 9", .aesGCM16,
      "feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe",
      nonce: "cafebabefacedbaddecaf888",
      text:
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        + "b16aedf5aa0de657ba637b391aafd255",
      sealed:
        "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f47"
        + "18e2448b2fe324d9ccda2710acade256",
      icv: "9924a7c8587336bfb118024db8674a14"),
    Vector(
      "McGrew and Viega, GCM, test case 15", .aesGCM16,
      "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308cafebabe",
      nonce: "cafebabefacedbaddecaf888",
      text:
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        + "b16aedf5aa0de657ba637b391aafd255",
      sealed:
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
        + "c5f61e6393ba7a0abcc9f662898015ad",
      icv: "b094dac5d93471bdec1a502270e3cc6c"),
    Vector(
      "RFC 8439 section 2.8.2", .chacha20Poly1305,
      "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f07000000",
      nonce: "070000004041424344454647",
      aad: "50515253c0c1c2c3c4c5c6c7",
      text:
        "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492063"
        + "6f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
        + "637265656e20776f756c642062652069742e",
      sealed:
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
        + "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        + "3ff4def08e4b7a9de576d26586cec64b6116",
      icv: "1ae10b594f09e26a7e902ecbd0600691"),
    Vector(
      "RFC 7634 appendix A", .chacha20Poly1305,
      "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
      nonce: "a0a1a2a31011121314151617",
      aad: "0102030400000005",
      text:
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f10111213"
        + "1415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
      sealed:
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7"
        + "2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0",
      icv: "76aaa8266b7fb0f7b11b369907e1ad43"),
    Vector(
      "draft-mcgrew-gcm-test-01, ENCR_NULL_AUTH_AES_GMAC", .aesGMAC,
      "4c80cdefbb5d10da906ac73c3613a63422433c64",
      nonce: "22433c640000000000000000",
      header: "0000432100000007",
      iv: "0000000000000000",
      aad: "0000432100000007",
      text:
        "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374"
        + "01020201",
      sealed:
        "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374"
        + "01020201",
      icv: "f2a9a836e155106aa8dcd618e4099aaa"),
    Vector(
      "draft-mcgrew-gcm-test-01, the same bytes as an image", .aesGMAC,
      "4c80cdefbb5d10da906ac73c3613a63422433c64",
      nonce: "22433c640000000000000000",
      header:
        "0000432100000007000000000000000045000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364"
        + "65666768696a6b6c6d6e6f707172737401020201",
      icv: "f2a9a836e155106aa8dcd618e4099aaa"),
  ]
}
