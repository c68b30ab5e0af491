import Foundation

/// The machine's hugepages, as the kernel counts them.
public enum Hugepages {
  static let directory = "/sys/kernel/mm/hugepages"

  /// Free pages of any size.
  public static var free: Int { sum("free_hugepages") }

  /// Pages of any size, free or in use.
  public static var total: Int { sum("nr_hugepages") }

  private static func sum(_ name: String) -> Int {
    let sizes = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return sizes.reduce(0) { $0 + count("\(directory)/\($1)/\(name)") }
  }

  static func count(_ path: String) -> Int {
    let text = try? String(contentsOfFile: path, encoding: .ascii)
    return text.flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) } ?? 0
  }

  /// Pages of 2 MB for so many megabytes.
  public static func pages(for megabytes: Int) -> Int { max(1, (megabytes + 1) / 2) }
}
