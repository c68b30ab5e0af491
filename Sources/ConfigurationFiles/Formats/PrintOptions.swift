/// The flags of ipsecctl that change what it prints.
public struct PrintOptions: Sendable, Hashable {
  /// How many `-v`: 0, 1 or 2.
  public var verbosity = 0
  /// `-k`.
  public var showsKeys = false
  /// `-c`.
  public var collapses = false
  /// `-d`: `ike` rules print what undoes them.
  public var deletes = false
  /// The identity of a `dynamic` rule without `srcid`.
  public var hostname = ""

  public init(
    verbosity: Int = 0, showsKeys: Bool = false, collapses: Bool = false, deletes: Bool = false, hostname: String = ""
  ) {
    self.verbosity = verbosity
    self.showsKeys = showsKeys
    self.collapses = collapses
    self.deletes = deletes
    self.hostname = hostname
  }
}
