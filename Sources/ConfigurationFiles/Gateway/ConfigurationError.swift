/// Why `gateway.yaml` was refused: `FILE:LINE:COLUMN: KEY.PATH: what was found and what was expected`.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  public var file: String
  /// From 1; nil where no place in the file is to blame.
  public var line: Int?
  public var column: Int?
  /// `ports[1].mtu`; empty for the whole file.
  public var path: String
  public var message: String

  public var description: String {
    var place = file
    if let line { place += ":\(line)" }
    if line != nil, let column { place += ":\(column)" }
    return path.isEmpty ? "\(place): \(message)" : "\(place): \(path): \(message)"
  }
}
