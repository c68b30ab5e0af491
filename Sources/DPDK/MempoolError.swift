/// Why there is no pool of packet buffers, with the remedy.
public enum MempoolError: Error, Equatable, Sendable, CustomStringConvertible {
  case noMemory(name: String, megabytes: Int, socket: Int)
  case invalid(String)

  public var description: String {
    switch self {
    case .noMemory(let name, let megabytes, let socket):
      "no memory for packet buffers \(name): \(megabytes) MB on NUMA node \(socket); add hugepages "
        + "(echo \(Hugepages.pages(for: megabytes)) > /proc/sys/vm/nr_hugepages) or, with hugepages: false, memory"
    case .invalid(let what): what
    }
  }
}
