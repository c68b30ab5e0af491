import CCrypto

/// Packets by length of their text: `auto` picks an engine for each class.
public enum SizeClass: Int, Sendable, CaseIterable {
  case small, medium, large, full

  /// The length that stands for the class when it is measured.
  public var sampleLength: Int {
    switch self {
    case .small: 64
    case .medium: 256
    case .large: 576
    case .full: 1280
    }
  }

  /// The longest text of the class; nil: none is too long.
  public var upToBytes: UInt32? {
    switch self {
    case .small: 128
    case .medium: 384
    case .large: 768
    case .full: nil
    }
  }

  /// As `upToBytes` has them.
  @inline(__always) static func index(of length: UInt32) -> Int {
    length <= 384 ? (length <= 128 ? 0 : 1) : (length <= 768 ? 2 : 3)
  }
}
