/// What `TransformKind.sample` makes of the first packet of a `SampleBurst` of `textLength` bytes with an upper sequence
/// number of 7. Computed with Python's `cryptography` and `hmac`, and RFC 3566's algorithm written out in Python.
enum KnownAnswers {
  static let textLength = 108

  /// The last 16 bytes of ciphertext and ICV, by cipher and bits of key without salt.
  static func cipher(_ encryption: EncryptionAlgorithm, bits: Int) -> String? {
    ciphers.first { $0.0 == encryption && $0.1 == bits }?.2
  }

  /// The ICV with null encryption, by MAC and bits of key without salt.
  static func mac(_ authentication: AuthenticationAlgorithm, bits: Int) -> String? {
    macs.first { $0.0 == authentication && $0.1 == bits }?.2
  }

  private static let ciphers: [(EncryptionAlgorithm, Int, String)] = [
    (.aesCBC, 128, "99d809fe1e1712366ccb689d49eada63"),
    (.aesCBC, 192, "ffe952889c9389da2fc6671810ad8945"),
    (.aesCBC, 256, "59773adaf4012628812ffa10487dfbd8"),
    (.aesCTR, 128, "532dbdbb50f3de1789d7c96681f53acd"),
    (.aesCTR, 192, "cc00cdd19a7145ab85600b86d35449b0"),
    (.aesCTR, 256, "c821164fd70fec4cc685527beae974a8"),
    (.aesGCM16, 128, "04652c123b1b9bbc730053da5ba78dd2"),
    (.aesGCM16, 192, "8f38d484df0579a13321312efff5e0b3"),
    (.aesGCM16, 256, "6f27843a50cc058c084a253cd5bb79c3"),
    (.aesGCM12, 128, "80b6f4cf04652c123b1b9bbc730053da"),
    (.aesGCM12, 192, "10d4d2128f38d484df0579a13321312e"),
    (.aesGCM12, 256, "ab9c83736f27843a50cc058c084a253c"),
    (.aesGCM8, 128, "2c81b3ed80b6f4cf04652c123b1b9bbc"),
    (.aesGCM8, 192, "0bf7a8e510d4d2128f38d484df0579a1"),
    (.aesGCM8, 256, "3f459f2cab9c83736f27843a50cc058c"),
    (.aesCCM16, 128, "1b2147217d94d2c744d42253ed771721"),
    (.aesCCM16, 192, "b3dbeac9fd60c2b5fbca4a5cb42855c8"),
    (.aesCCM16, 256, "44a14af63673b52af1586800f19f19f0"),
    (.aesCCM12, 128, "b792847e6de0899d9a17c50569dda46a"),
    (.aesCCM12, 192, "8e1adcbda7d12a56259607b564fe8dc4"),
    (.aesCCM12, 256, "a26eba4c48e23833857b9a0f32bbcf77"),
    (.aesCCM8, 128, "89ccad49b792847e90df48a3b1ec95da"),
    (.aesCCM8, 192, "a00ceca68e1adcbdea7f5d4cac052b36"),
    (.aesCCM8, 256, "3740a64aa26eba4c92ea238db3a6ce29"),
    (.aesGMAC, 128, "df2de20a02ad9df465c3ff9f1fea6d95"),
    (.aesGMAC, 192, "b91d417db16fd169c045f1a0f8d318cb"),
    (.aesGMAC, 256, "5ecb1b8265b7571ea52a29fa1ea0d730"),
    (.chacha20Poly1305, 256, "b5d2ffd34ee5bb1a646ffee3ec06e833"),
    (.tripleDESCBC, 192, "5ced9c30fd0d0f278bfaf191ff8a0e53"),
    (.camelliaCBC, 128, "511ea151e47895298315d0462b840f7f"),
    (.camelliaCBC, 192, "34e74c390c71b570ae031679707adf44"),
    (.camelliaCBC, 256, "2e50e1e0f4833460f388a642b222dcda"),
  ]

  private static let macs: [(AuthenticationAlgorithm, Int, String)] = [
    (.hmacMD5, 128, "ab21eb163970de78cbaf86ed"),
    (.hmacSHA1, 160, "53f15c8fe6cebdddc871ec32"),
    (.hmacSHA256, 256, "0f4a6e1630f2dd3e1cb1c64175039f4c"),
    (.hmacSHA384, 384, "6c8f9ae69cde8778b69ab2c01146ccb57d56c0e43c64e3bd"),
    (.hmacSHA512, 512, "5248a55f7cd54dce8e2b531f61f3513b8355578bf6f31e2a1ea5590488c146a7"),
    (.aesXCBC, 128, "1ec57be3912ee2cecf8cdc8a"),
    (.aesCMAC, 128, "1d1f163915a702f7a81004b0"),
    (.aesGMAC, 128, "e94ec7ddeb9ebaae32839d02cefe4808"),
    (.aesGMAC, 192, "201e320241ca0e60dadfa56ade936ced"),
    (.aesGMAC, 256, "fda20f37d8805ccc0ffd19809547468e"),
  ]
}
