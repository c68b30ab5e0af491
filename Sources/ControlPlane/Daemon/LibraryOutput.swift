import CDPDK
import DPDK
import Foundation
import Logging

/// What libraries beneath DPDK's drivers (libxdp, libbpf) write to standard error while ports are set up: nothing that an
/// operator can do something about, so it is there at the level `debug` alone.
enum LibraryOutput {
  static func collecting<Result>(_ logger: Logger, _ body: () throws -> Result) rethrows -> Result {
    var output = cdpdk_output()
    guard cdpdk_output_divert(&output) == 0 else { return try body() }
    defer { sort(cdpdk_output_restore(&output), logger) }
    return try body()
  }

  /// Other threads' lines go where they were meant to go.
  private static func sort(_ text: UnsafeMutablePointer<CChar>?, _ logger: Logger) {
    guard let text else { return }
    defer { free(text) }
    for line in String(cString: text).split(whereSeparator: \.isNewline) {
      if line.hasPrefix("libbpf: ") || line.hasPrefix("libxdp: ") {
        logger.debug("\(line)")
      } else {
        FileHandle.standardError.write(Data((line + "\n").utf8))
      }
    }
  }

  /// DPDK's own lines.
  static func follow(_ logger: Logger) {
    EALLog.shared.setHandler { line in logger.debug("DPDK: \(line.text)") }
  }
}
