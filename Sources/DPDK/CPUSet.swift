import CDPDK
import Foundation
import Machine

/// CPU cores by the kernel's numbers, in order.
public struct CPUSet: Sendable, Equatable, CustomStringConvertible {
  public let cores: [Int]

  public init(_ cores: some Sequence<Int>) { self.cores = Set(cores).sorted() }

  /// The kernel's list format: `0-3,8`. Nil: malformed.
  public init?(list text: String) {
    var cores: [Int] = []
    for part in text.split(separator: ",") {
      let bounds = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { Int($0) }
      guard let first = bounds[0], first >= 0, let last = bounds[bounds.count - 1] else { return nil }
      guard first <= last, last < Self.maximum else { return nil }
      cores += first...last
    }
    self.init(cores)
  }

  static let maximum = 1024

  /// Cores that are running.
  public static var online: CPUSet {
    let text = try? String(contentsOfFile: "/sys/devices/system/cpu/online", encoding: .ascii)
    return text.flatMap { CPUSet(list: $0.trimmingCharacters(in: .whitespacesAndNewlines)) } ?? .allowed
  }

  /// Cores that the calling thread may run on (taskset, cgroups, systemd's CPUAffinity).
  public static var allowed: CPUSet {
    var words = [UInt64](repeating: 0, count: maximum / 64)
    guard cdpdk_affinity_get(&words, Int32(words.count)) == 0 else { return CPUSet([0]) }
    return CPUSet((0..<maximum).filter { words[$0 / 64] >> UInt64($0 % 64) & 1 == 1 })
  }

  public func contains(_ core: Int) -> Bool { cores.contains(core) }

  /// As the kernel prints it.
  public var description: String { CoreList(Set(cores)).text }
}
