import ConfigurationFiles
import Glibc

/// isakmpd's command FIFO.
enum IsakmpdFIFO {
  struct Refusal: Error {
    var message: String
    /// Nothing more can be sent: ipsecctl ends here.
    var isFatal: Bool
  }

  /// OpenBSD's own, where it is there.
  static var standing: String? {
    let path = "/var/run/isakmpd.fifo"
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO ? path : nil
  }

  /// Waits, as OpenBSD's ipsecctl does, until somebody reads.
  static func send(_ commands: IKECommands, to path: String) throws(Refusal) {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fatal("open(\(path)): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw fatal("fstat(\(path)): \(String(cString: strerror(errno)))")
    }
    guard status.st_mode & S_IFMT == S_IFIFO else { throw fatal("\(path) not a fifo") }
    var bytes = Array(commands.text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0 && errno == EINTR { continue }
      guard written > 0 else { throw fatal("write(\(path)): \(String(cString: strerror(errno)))") }
      bytes = bytes.dropFirst(written)
    }
    if let failure = commands.failure { throw Refusal(message: failure, isFatal: false) }
  }

  private static func fatal(_ message: String) -> Refusal {
    Refusal(message: "ike_ipsec_establish: " + message, isFatal: true)
  }
}
