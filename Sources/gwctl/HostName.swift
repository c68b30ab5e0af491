import Glibc

enum HostName {
  /// As `gethostname(2)` has it.
  static var current: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 257) { buffer in
      buffer.initialize(repeating: 0)
      guard let base = buffer.baseAddress, gethostname(base, 256) == 0 else { return "" }
      return String(cString: base)
    }
  }
}
