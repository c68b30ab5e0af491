import CCrypto
import COpenSSL

/// A MAC's part of a composed record: computes the ICV of a job.
protocol MessageAuthentication {
  /// Writes the whole, untruncated tag (64 bytes at the most) to `out`. False if the library failed.
  static func authenticate(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<Self>>,
    into out: UnsafeMutablePointer<UInt8>
  ) -> Bool
}

/// A hash of libcrypto whose state is a plain struct, so that keyed states are copied and not computed anew.
protocol Digest {
  associatedtype State
  static var blockLength: Int { get }
  static var length: Int { get }
  static func start() -> State
  static func update(_ state: inout State, _ bytes: UnsafeRawPointer, _ count: Int)
  static func finish(_ state: inout State, into out: UnsafeMutablePointer<UInt8>)
}

/// RFC 2104 with the states after the inner and outer pad kept.
struct HMAC<D: Digest>: MessageAuthentication {
  var inner: D.State
  var outer: D.State

  /// Keys longer than a block do not occur: RFC 4868 fixes them at the hash's length.
  init(key: UnsafeRawBufferPointer) {
    inner = D.start()
    outer = D.start()
    withUnsafeTemporaryAllocation(byteCount: D.blockLength, alignment: 16) { pad in
      for (byte, mask) in [(0x36 as UInt8, \HMAC.inner), (0x5c, \HMAC.outer)] {
        for index in 0..<D.blockLength { pad[index] = byte ^ (index < key.count ? key[index] : 0) }
        guard let start = pad.baseAddress else { return }
        D.update(&self[keyPath: mask], start, D.blockLength)
      }
      OPENSSL_cleanse(pad.baseAddress, pad.count)
    }
  }

  @inline(__always)
  static func authenticate(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<HMAC<D>>>,
    into out: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    var state = record.pointee.mac.inner
    D.update(&state, job.pointee.authenticated, Int(job.pointee.authenticated_length))
    if job.pointee.has_sequence_high != 0 { D.update(&state, crypto_job_sequence_high(job), 4) }
    D.finish(&state, into: out)
    state = record.pointee.mac.outer
    D.update(&state, out, D.length)
    D.finish(&state, into: out)
    return true
  }
}

enum MD5Digest: Digest {
  static var blockLength: Int { 64 }
  static var length: Int { 16 }
  static func start() -> MD5_CTX {
    var state = MD5_CTX()
    MD5_Init(&state)
    return state
  }
  @inline(__always) static func update(_ state: inout MD5_CTX, _ bytes: UnsafeRawPointer, _ count: Int) {
    MD5_Update(&state, bytes, count)
  }
  @inline(__always) static func finish(_ state: inout MD5_CTX, into out: UnsafeMutablePointer<UInt8>) {
    MD5_Final(out, &state)
  }
}

enum SHA1Digest: Digest {
  static var blockLength: Int { 64 }
  static var length: Int { 20 }
  static func start() -> SHA_CTX {
    var state = SHA_CTX()
    SHA1_Init(&state)
    return state
  }
  @inline(__always) static func update(_ state: inout SHA_CTX, _ bytes: UnsafeRawPointer, _ count: Int) {
    SHA1_Update(&state, bytes, count)
  }
  @inline(__always) static func finish(_ state: inout SHA_CTX, into out: UnsafeMutablePointer<UInt8>) {
    SHA1_Final(out, &state)
  }
}

enum SHA256Digest: Digest {
  static var blockLength: Int { 64 }
  static var length: Int { 32 }
  static func start() -> SHA256_CTX {
    var state = SHA256_CTX()
    SHA256_Init(&state)
    return state
  }
  @inline(__always) static func update(_ state: inout SHA256_CTX, _ bytes: UnsafeRawPointer, _ count: Int) {
    SHA256_Update(&state, bytes, count)
  }
  @inline(__always) static func finish(_ state: inout SHA256_CTX, into out: UnsafeMutablePointer<UInt8>) {
    SHA256_Final(out, &state)
  }
}

enum SHA384Digest: Digest {
  static var blockLength: Int { 128 }
  static var length: Int { 48 }
  static func start() -> SHA512_CTX {
    var state = SHA512_CTX()
    SHA384_Init(&state)
    return state
  }
  @inline(__always) static func update(_ state: inout SHA512_CTX, _ bytes: UnsafeRawPointer, _ count: Int) {
    SHA384_Update(&state, bytes, count)
  }
  @inline(__always) static func finish(_ state: inout SHA512_CTX, into out: UnsafeMutablePointer<UInt8>) {
    SHA384_Final(out, &state)
  }
}

enum SHA512Digest: Digest {
  static var blockLength: Int { 128 }
  static var length: Int { 64 }
  static func start() -> SHA512_CTX {
    var state = SHA512_CTX()
    SHA512_Init(&state)
    return state
  }
  @inline(__always) static func update(_ state: inout SHA512_CTX, _ bytes: UnsafeRawPointer, _ count: Int) {
    SHA512_Update(&state, bytes, count)
  }
  @inline(__always) static func finish(_ state: inout SHA512_CTX, into out: UnsafeMutablePointer<UInt8>) {
    SHA512_Final(out, &state)
  }
}
