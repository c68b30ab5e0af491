extension CryptoTransform {
  /// Whether the pair makes sense in ESP or AH: an AEAD stands alone, and GMAC as a MAC belongs to AH.
  var isMeaningful: Bool {
    if encryption.isAEAD { return authentication == nil }
    return authentication != .aesGMAC || encryption == .null
  }

  /// Throws what is wrong with the pair or with the lengths of its keys.
  func check() throws(CryptoEngineError) {
    guard isMeaningful else { throw .unsupported("\(encryption) with \(authentication.map { "\($0)" } ?? "none")") }
    guard encryption.keyLengths.contains(encryptionKey.count) else {
      throw .keyLength(expected: encryption.keyLengths, got: encryptionKey.count)
    }
    let expected = authentication?.keyLengths ?? [0]
    guard expected.contains(authenticationKey.count) else {
      throw .keyLength(expected: expected, got: authenticationKey.count)
    }
  }

  /// The cipher's key without its salt.
  var cipherKey: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: encryptionKey.bytes.dropLast(encryption.saltLength))
  }

  /// The MAC's key without GMAC's salt.
  var macKey: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: authenticationKey.bytes.dropLast(authentication?.row.saltLength ?? 0))
  }
}

extension EncryptionAlgorithm {
  var isCCM: Bool { row.rfc == 4309 }
  /// Bytes of nonce in a job.
  var nonceLength: Int { row.nonceLength }
  /// What the text's length must be a multiple of.
  var blockLength: Int { row.blockLength }
}
