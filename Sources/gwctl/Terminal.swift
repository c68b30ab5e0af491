import Foundation

/// Where a tool writes. Standard output is buffered by stdio, standard error is not, as in C; but what was written before
/// an error stands before it.
struct Terminal {
  /// Text as it is.
  var write: (String) -> Void
  /// A line, without its end.
  var error: (String) -> Void
  /// After each event of an endless listing.
  var flush: () -> Void = {}

  static var standard: Terminal {
    Terminal(
      write: { print($0, terminator: "") },
      error: {
        fflush(nil)
        FileHandle.standardError.write(Data(($0 + "\n").utf8))
      },
      flush: { fflush(nil) })
  }
}
