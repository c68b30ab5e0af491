import IPsec

/// Why the gateway refused; nothing has changed when it is thrown. Crosses the API as `{error, detail}` and a status.
public struct ControlError: Error, Codable, Sendable, Hashable, CustomStringConvertible {
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// The request itself is not understood.
    case malformed
    /// Understood, and wrong.
    case invalid
    case forbidden
    case notFound = "not_found"
    case exists
    case unsupported
    /// A configured limit was reached.
    case full
    case tooLarge = "too_large"
    case methodNotAllowed = "method_not_allowed"
    /// Starting or stopping.
    case unavailable
    case `internal`
  }

  public var kind: Kind
  public var detail: String
  /// Where rules failed: which.
  public var failures: [LoadReport.Failure]?

  public init(_ kind: Kind, _ detail: String, failures: [LoadReport.Failure]? = nil) {
    self.kind = kind
    self.detail = detail
    self.failures = failures
  }

  public init(_ error: DatabaseError) {
    switch error {
    case .exists: self.init(.exists, error.description)
    case .keyInUse: self.init(.invalid, error.description)
    case .notFound: self.init(.notFound, error.description)
    case .invalid: self.init(.invalid, error.description)
    case .unsupported: self.init(.unsupported, error.description)
    case .full: self.init(.full, error.description)
    }
  }

  enum CodingKeys: String, CodingKey {
    case kind = "error"
    case detail, failures
  }

  public var description: String { detail }

  /// The HTTP status that carries it.
  public var statusCode: Int {
    switch kind {
    case .malformed: 400
    case .forbidden: 403
    case .notFound: 404
    case .methodNotAllowed: 405
    case .exists: 409
    case .tooLarge: 413
    case .invalid, .unsupported: 422
    case .internal: 500
    case .unavailable: 503
    case .full: 507
    }
  }
}
