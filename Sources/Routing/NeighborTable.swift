import Wire

/// What is known of a neighbour's Ethernet address.
public enum NeighborState: UInt8, Sendable, Hashable, CaseIterable {
  /// From the configuration; what is learned does not change it.
  case permanent
  case reachable
  /// Not confirmed of late; used all the same.
  case stale
  /// Asked for.
  case incomplete
  /// Asked for in vain.
  case failed
}

/// Names a neighbour: an address on a port's link.
public struct NeighborKey: Hashable, Sendable {
  public var port: UInt16
  public var address: IPAddress

  public init(port: UInt16, address: IPAddress) {
    self.port = port
    self.address = address
  }
}

/// A neighbour as `gwctl show neighbors` prints it.
public struct NeighborRecord: Hashable, Sendable {
  public var key: NeighborKey
  public var portName: String?
  public var mac: MACAddress?
  public var state: NeighborState
}

/// The neighbours of all ports, static and learned, bounded. Control thread.
struct NeighborTable {
  struct Entry {
    var configured: MACAddress?
    var learned: MACAddress?
    var learnedState: NeighborState?

    var mac: MACAddress? { configured ?? learned }
    var state: NeighborState { configured != nil ? .permanent : learnedState ?? .incomplete }
    var isEmpty: Bool { configured == nil && learnedState == nil }
  }

  let capacity: Int
  private(set) var entries: [NeighborKey: Entry] = [:]

  init(capacity: Int) { self.capacity = capacity }

  subscript(key: NeighborKey) -> Entry? { entries[key] }

  /// The Ethernet address to use, if it is known.
  func mac(_ key: NeighborKey) -> MACAddress? { entries[key]?.mac }

  /// Changes an entry, making it if need be; one that says nothing any more goes. Returns whether the address to use
  /// has changed.
  mutating func update(_ key: NeighborKey, _ change: (inout Entry) -> Void) throws(RoutingError) -> Bool {
    var entry = entries[key] ?? Entry()
    let before = entry.mac
    change(&entry)
    if entry.isEmpty {
      entries[key] = nil
    } else {
      guard entries[key] != nil || entries.count < capacity else {
        throw .full("the neighbour table holds \(capacity) and has no room for \(key.address)")
      }
      entries[key] = entry
    }
    return entry.mac != before
  }
}
