import Glibc
import IPsec

/// Why a request was refused: the errno of the answer, and the words of XFRM's extended acknowledgement.
/// The database stands as it did.
public struct KeyRefusal: Error, Equatable, Sendable, CustomStringConvertible {
  public var code: Int32
  public var text: String
  /// False: the kernel adds no words to this errno, and tools print strerror's then, which scripts look for.
  public var isWorded: Bool

  /// - Parameter isWorded: nil: as the kernel does with most refusals of this kind.
  public init(_ code: Int32, _ text: String, isWorded: Bool? = nil) {
    self.code = code
    self.text = text
    self.isWorded = isWorded ?? ![EEXIST, ESRCH, ENOENT].contains(code)
  }

  /// `missing` is what the protocol calls an absent SA (ESRCH) or policy (ENOENT).
  init(_ error: DatabaseError, missing: Int32 = ESRCH) {
    let code =
      switch error {
      case .exists, .keyInUse: EEXIST
      case .notFound: missing
      case .invalid: EINVAL
      case .unsupported: EOPNOTSUPP
      case .full: ENOBUFS
      }
    self.init(code, error.description)
    // The kernel takes it, and so has no words of its own.
    if case .keyInUse = error { isWorded = true }
  }

  public var description: String { "\(text) (\(String(cString: strerror(code))))" }

  static func invalid(_ text: String) -> KeyRefusal { KeyRefusal(EINVAL, text) }
  static func unsupported(_ text: String) -> KeyRefusal { KeyRefusal(EOPNOTSUPP, text) }
  /// An algorithm that the gateway does not run, as the kernel answers for one it does not have.
  static func noAlgorithm(_ text: String) -> KeyRefusal { KeyRefusal(ENOSYS, text) }
}

/// Runs a database call and turns its refusal into the protocol's.
func refusing<Result>(
  missing: Int32 = ESRCH, _ body: () throws(DatabaseError) -> Result
) throws(KeyRefusal) -> Result {
  do { return try body() } catch { throw KeyRefusal(error, missing: missing) }
}
