import CIPsecMB

/// GCM for one length of key and one direction, in the code that the library picks for the CPU and, beside AVX2's, in
/// its AVX code, which works in strides of eight blocks: texts that end little behind a whole stride take 4 to 7 % less
/// from some length on, others more (AMD Zen 3). From which is measured, on the CPU that it runs on.
struct IPsecMBGCMCode {
  /// Bytes: eight blocks of AES.
  static let stride = 128

  let run: aes_gcm_enc_dec_t
  /// The AVX code; equal to `run` where there is none.
  var runLong: aes_gcm_enc_dec_t
  /// By the blocks behind the last whole stride: from how many strides on the AVX code is taken.
  var longFrom = InlineArray<8, UInt16>(repeating: .max)
  /// Makes the schedule that both work with.
  var expand: aes_gcm_pre_t

  struct Key: Hashable {
    var length: Int
    var direction: CryptoDirection
  }

  /// When the AVX code is taken. Tests take it always or never.
  enum Choice: Sendable { case measured, always, never }

  /// Nil if the library lacks it.
  init?(
    _ automatic: UnsafeMutablePointer<IPsecMBWorker>, _ avx: UnsafeMutablePointer<IPsecMBWorker>?, _ key: Key,
    _ choice: Choice
  ) {
    guard let own = IPsecMBGCMFunctions(automatic, key.length), let run = own.run(key.direction) else { return nil }
    (self.run, runLong, expand) = (run, run, own.expand)
    guard choice != .never, let avx, let other = IPsecMBGCMFunctions(avx, key.length),
      let long = other.run(key.direction), let trial = IPsecMBGCMTrial(own, other, key)
    else { return }
    (runLong, expand) = (long, other.expand)
    longFrom = choice == .always ? InlineArray(repeating: 0) : trial.longFrom()
  }
}

/// The library's functions for a length of key.
struct IPsecMBGCMFunctions {
  let expand: aes_gcm_pre_t
  private let seal: aes_gcm_enc_dec_t?
  private let open: aes_gcm_enc_dec_t?

  init?(_ worker: UnsafeMutablePointer<IPsecMBWorker>, _ keyLength: Int) {
    let manager = worker.pointee.manager
    let functions =
      switch keyLength {
      case 16: (manager.pointee.gcm128_pre, manager.pointee.gcm128_enc, manager.pointee.gcm128_dec)
      case 24: (manager.pointee.gcm192_pre, manager.pointee.gcm192_enc, manager.pointee.gcm192_dec)
      default: (manager.pointee.gcm256_pre, manager.pointee.gcm256_enc, manager.pointee.gcm256_dec)
      }
    guard let expand = functions.0 else { return nil }
    (self.expand, seal, open) = (expand, functions.1, functions.2)
  }

  func run(_ direction: CryptoDirection) -> aes_gcm_enc_dec_t? { direction == .seal ? seal : open }
}
