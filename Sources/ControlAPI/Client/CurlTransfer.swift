import CCurl
import Foundation
import Glibc

/// One HTTP exchange over a Unix socket by libcurl. Blocks its thread.
struct CurlTransfer {
  let socketPath: String
  /// In all; nil: for as long as it takes.
  let timeoutSeconds: Double?

  /// Handed to libcurl's callbacks for the length of one call of `run`.
  private final class Sink {
    let handle: UnsafeMutableRawPointer
    let limit: Int
    let onBytes: ((UnsafeRawBufferPointer) -> Bool)?
    let isCancelled: (() -> Bool)?
    var collected = Data()
    var stopped = false

    init(
      handle: UnsafeMutableRawPointer, limit: Int, onBytes: ((UnsafeRawBufferPointer) -> Bool)?,
      isCancelled: (() -> Bool)?
    ) {
      self.handle = handle
      self.limit = limit
      self.onBytes = onBytes
      self.isCancelled = isCancelled
    }

    /// False ends the transfer. The body of a refusal is always collected.
    func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
      if let onBytes, ccurl_status(handle) < 400 {
        if !onBytes(bytes) { stopped = true }
        return !stopped
      }
      guard collected.count + bytes.count <= limit else { return false }
      collected.append(contentsOf: bytes)
      return true
    }
  }

  /// - Parameters:
  ///   - body: not nil makes it a POST.
  ///   - onBytes: streams the answer's body; false ends the transfer without an error.
  ///   - isCancelled: asked about once a second.
  /// - Returns: the answer's body where it was not streamed.
  func run(
    path: String, body: Data?, onBytes: ((UnsafeRawBufferPointer) -> Bool)? = nil, isCancelled: (() -> Bool)? = nil
  ) throws(ControlClientError) -> Data {
    _ = Self.initialized
    guard let handle = curl_easy_init() else { throw .transport("libcurl failed to start") }
    defer { curl_easy_cleanup(handle) }
    // Without Expect: libcurl would wait a second for "100 Continue" before each large body.
    let headers = curl_slist_append(curl_slist_append(nil, "Expect:"), "Content-Type: application/json")
    defer { curl_slist_free_all(headers) }
    ccurl_set_string(handle, CURLOPT_UNIX_SOCKET_PATH, socketPath)
    ccurl_set_string(handle, CURLOPT_URL, "http://gw" + path)
    ccurl_set_string(handle, CURLOPT_PROXY, "")
    ccurl_set_long(handle, CURLOPT_NOSIGNAL, 1)
    ccurl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, 5000)
    if let timeoutSeconds { ccurl_set_long(handle, CURLOPT_TIMEOUT_MS, Int(timeoutSeconds * 1000)) }
    ccurl_set_headers(handle, headers)
    if let body {
      ccurl_set_long(handle, CURLOPT_POST, 1)
      // A null pointer would mean that no body was given.
      _ = body.withUnsafeBytes { ccurl_set_body(handle, $0.baseAddress ?? UnsafeRawPointer(bitPattern: 1), $0.count) }
    }
    let sink = Sink(handle: handle, limit: 4 << 30, onBytes: onBytes, isCancelled: isCancelled)
    let context = Unmanaged.passUnretained(sink).toOpaque()
    ccurl_set_write(
      handle,
      { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        let taken = Unmanaged<Sink>.fromOpaque(context).takeUnretainedValue()
          .take(UnsafeRawBufferPointer(start: bytes, count: size * count))
        return taken ? size * count : 0
      }, context)
    ccurl_set_progress(
      handle,
      { context, _, _, _, _ in
        guard let context else { return 1 }
        return Unmanaged<Sink>.fromOpaque(context).takeUnretainedValue().isCancelled?() == true ? 1 : 0
      }, context)
    let code = withExtendedLifetime(sink) { curl_easy_perform(handle) }
    try check(code, handle, sink)
    return sink.collected
  }

  private func check(_ code: CURLcode, _ handle: UnsafeMutableRawPointer, _ sink: Sink) throws(ControlClientError) {
    switch code {
    case CURLE_OK: break
    case CURLE_COULDNT_CONNECT:
      if ccurl_os_errno(handle) == Int(EACCES) { throw .permission(socketPath: socketPath) }
      throw .notRunning(socketPath: socketPath)
    case CURLE_OPERATION_TIMEDOUT: throw .timedOut(seconds: timeoutSeconds ?? 5)
    case CURLE_WRITE_ERROR where sink.stopped, CURLE_ABORTED_BY_CALLBACK: return
    default: throw .transport("\(socketPath): \(String(cString: curl_easy_strerror(code)))")
    }
    let status = ccurl_status(handle)
    guard status >= 400 else { return }
    if let error = try? JSONDecoder().decode(ControlError.self, from: sink.collected) { throw .refused(error) }
    throw .transport("\(socketPath): HTTP status \(status)")
  }

  private static let initialized: Void = { curl_global_init(Int(CURL_GLOBAL_DEFAULT)) }()
}
