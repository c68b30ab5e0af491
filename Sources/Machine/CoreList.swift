/// Cores in the kernel's list format, `0-3,8`.
public struct CoreList: Sendable, Equatable {
  public let cores: Set<Int>

  public init(_ cores: Set<Int>) { self.cores = cores }

  public init(_ text: String) {
    var cores: Set<Int> = []
    // isolcpus may begin with flags: "managed_irq,domain,2-3".
    for part in text.split(separator: ",") {
      let bounds = part.split(separator: "-", maxSplits: 1).map { Int($0) }
      guard let first = bounds.first ?? nil, let last = bounds.last ?? nil, first <= last, last < 4096 else { continue }
      cores.formUnion(first...last)
    }
    self.cores = cores
  }

  public func contains(_ core: Int) -> Bool { cores.contains(core) }

  public var text: String {
    var parts: [String] = []
    var rest = cores.sorted()[...]
    while let first = rest.popFirst() {
      var last = first
      while rest.first == last + 1 { last = rest.removeFirst() }
      parts.append(first == last ? "\(first)" : "\(first)-\(last)")
    }
    return parts.joined(separator: ",")
  }
}
