import CCrypto

/// See `ccrypto.h` for the layout; 128 bytes, owned by one worker.
public typealias CryptoJob = crypto_job

/// See `ccrypto.h` for the contract.
public typealias CryptoBurst = crypto_burst
