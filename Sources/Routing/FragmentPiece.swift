/// One fragment's share of a packet's payload, in bytes from the payload's start.
public struct FragmentPiece: Equatable, Sendable {
  public let offset: Int
  public let length: Int
  public let isFirst: Bool
  public let isLast: Bool

  public init(offset: Int, length: Int, isFirst: Bool, isLast: Bool) {
    self.offset = offset
    self.length = length
    self.isFirst = isFirst
    self.isLast = isLast
  }
}
