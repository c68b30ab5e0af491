import CCrypto

/// Packets by length of their text: `auto` picks an engine for each class.
public enum SizeClass: Int, Sendable, CaseIterable {
  case small, medium, large

  /// The length that stands for the class when it is measured.
  public var sampleLength: Int {
    switch self {
    case .small: 64
    case .medium: 256
    case .large: 1024
    }
  }

  /// The longest text of the class; nil: none is too long.
  public var upToBytes: UInt32? {
    switch self {
    case .small: 128
    case .medium: 512
    case .large: nil
    }
  }

  /// The longest text of the class; nil: any.
  public var upperBound: UInt32? {
    switch self {
    case .small: 128
    case .medium: 512
    case .large: nil
    }
  }

  /// As `upperBound` has them.
  @inline(__always) static func index(of length: UInt32) -> Int { length <= 128 ? 0 : length <= 512 ? 1 : 2 }
}
