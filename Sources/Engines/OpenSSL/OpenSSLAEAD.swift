import CCrypto
import COpenSSL

/// The loops of GCM, ChaCha20-Poly1305, CCM and NULL-GMAC over the provider's functions.
enum OpenSSLAEAD {
  // The text's update may not be given a shorter output than a block more than its input (EVP's rule, kept here).
  private static let slack = 16

  @inline(__always)
  private static func eachJob(
    _ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int,
    _ body: (
      _ job: UnsafeMutablePointer<CryptoJob>, _ cipher: OpenSSLTable, _ context: UnsafeMutableRawPointer,
      _ ivLength: Int, _ tag: UnsafeMutablePointer<OSSL_PARAM>
    ) -> Bool
  ) {
    withUnsafeTemporaryAllocation(of: OSSL_PARAM.self, capacity: 2) { parameters in
      guard let tag = parameters.baseAddress else { return }
      tag.initialize(to: openssl_tag_parameter(nil, 16))
      (tag + 1).initialize(to: openssl_end_parameter())
      var index = 0
      while index < count {
        jobs.prefetchOpenSSL(after: index, count: count)
        let job = jobs + index
        let record = job.pointee.session.assumingMemoryBound(to: OpenSSLRecord.self)
        tag.pointee.data = UnsafeMutableRawPointer(job.pointee.icv)
        tag.pointee.data_size = Int(record.pointee.icvLength)
        job.pointee.succeeded =
          if let cipher = record.pointee.cipher, let context = record.pointee.context,
            body(job, cipher, context, Int(record.pointee.ivLength), tag)
          {
            1
          } else {
            0
          }
        index &+= 1
      }
    }
  }

  /// GCM and ChaCha20-Poly1305.
  static let seal: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      let text = job.pointee.text
      let length = Int(job.pointee.text_length)
      let aadLength = Int(job.pointee.aad_length)
      var done = 0
      return cipher.pointee.encrypt_init(context, nil, 0, crypto_job_nonce(job), ivLength, nil) == 1
        && cipher.pointee.update(context, nil, &done, aadLength, crypto_job_aad(job), aadLength) == 1
        && cipher.pointee.update(context, text, &done, length &+ slack, text, length) == 1
        && cipher.pointee.final(context, text, &done, slack) == 1
        && cipher.takeTag(context, tag)
    }
  }

  static let open: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      let text = job.pointee.text
      let length = Int(job.pointee.text_length)
      let aadLength = Int(job.pointee.aad_length)
      var done = 0
      return cipher.giveTag(context, crypto_job_nonce(job), ivLength, tag)
        && cipher.pointee.update(context, nil, &done, aadLength, crypto_job_aad(job), aadLength) == 1
        && cipher.pointee.update(context, text, &done, length &+ slack, text, length) == 1
        && cipher.pointee.final(context, text, &done, slack) == 1
    }
  }

  /// RFC 4543: AAD, the IV before the text and the text are all additional data.
  static let sealGMAC: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      let aadLength = Int(job.pointee.aad_length)
      let rest = Int(job.pointee.text_length) &+ 8
      var done = 0
      return cipher.pointee.encrypt_init(context, nil, 0, crypto_job_nonce(job), ivLength, nil) == 1
        && cipher.pointee.update(context, nil, &done, aadLength, crypto_job_aad(job), aadLength) == 1
        && cipher.pointee.update(context, nil, &done, rest, job.pointee.text - 8, rest) == 1
        && cipher.pointee.final(context, job.pointee.icv, &done, slack) == 1
        && cipher.takeTag(context, tag)
    }
  }

  static let openGMAC: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      let aadLength = Int(job.pointee.aad_length)
      let rest = Int(job.pointee.text_length) &+ 8
      var done = 0
      return cipher.giveTag(context, crypto_job_nonce(job), ivLength, tag)
        && cipher.pointee.update(context, nil, &done, aadLength, crypto_job_aad(job), aadLength) == 1
        && cipher.pointee.update(context, nil, &done, rest, job.pointee.text - 8, rest) == 1
        && cipher.pointee.final(context, job.pointee.icv, &done, slack) == 1
    }
  }

  /// CCM is told the length first, which only `update` can. The rest goes through `cipher`, for that one reports a bad
  /// tag without queueing an error, which would allocate.
  static let sealCCM: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      cipher.pointee.encrypt_init(context, nil, 0, crypto_job_nonce(job), ivLength, nil) == 1
        && runCCM(job, cipher, context) && cipher.pointee.get_ctx_params(context, tag) == 1
    }
  }

  static let openCCM: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, cipher, context, ivLength, tag in
      cipher.pointee.decrypt_init(context, nil, 0, crypto_job_nonce(job), ivLength, tag) == 1
        && runCCM(job, cipher, context)
    }
  }

  @inline(__always)
  private static func runCCM(
    _ job: UnsafeMutablePointer<CryptoJob>, _ cipher: OpenSSLTable, _ context: UnsafeMutableRawPointer
  ) -> Bool {
    let text = job.pointee.text
    let length = Int(job.pointee.text_length)
    let aadLength = Int(job.pointee.aad_length)
    var done = 0
    return cipher.pointee.update(context, nil, &done, length, nil, length) == 1
      && cipher.pointee.cipher(context, nil, &done, aadLength, crypto_job_aad(job), aadLength) == 1
      && cipher.pointee.cipher(context, text, &done, length &+ slack, text, length) == 1
  }
}
