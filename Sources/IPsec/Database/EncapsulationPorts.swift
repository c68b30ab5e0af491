import CLayout

/// The gateway's own UDP ports, but for 4500, that inbound SAs have ESP come to. Control thread.
struct EncapsulationPorts {
  /// RFC 3948: every worker knows it.
  private static let usual: UInt16 = 4500
  /// IKE without the non-ESP marker: what comes to it cannot be told from ESP.
  private static let ike: UInt16 = 500

  /// By the SAs' serials, and how many SAs have each.
  private var ports: [UInt32: UInt16] = [:]
  private var counts: [UInt16: Int] = [:]

  var all: Set<UInt16> { Set(counts.keys) }

  /// Takes note of what an SA has now; nil: it is gone, or has none. True: `all` is another.
  mutating func note(_ serial: UInt32, _ port: UInt16?) -> Bool {
    let port = port.flatMap { $0 == Self.usual || $0 == Self.ike || $0 == 0 ? nil : $0 }
    let old = ports.removeValue(forKey: serial)
    guard old != port else {
      if let port { ports[serial] = port }
      return false
    }
    var isChanged = false
    if let port {
      ports[serial] = port
      counts[port, default: 0] += 1
      isChanged = counts[port] == 1
    }
    if let old, let count = counts[old] {
      counts[old] = count > 1 ? count - 1 : nil
      isChanged = isChanged || count == 1
    }
    return isChanged
  }
}

extension SecurityDatabase {
  /// The gateway's own UDP ports, but for 4500, that inbound SAs have ESP come to.
  public var encapsulationPorts: Set<UInt16> { encapsulations.all }

  func noteEncapsulation(of entry: SAEntry, isThere: Bool) {
    // Asked of the record first: all parameters are made anew each time.
    let isInUDP = (entry.sa?.pointee.flags ?? 0) & GW_SA_UDP_ENCAP.rawValue != 0
    let port = isThere && entry.isInbound && isInUDP ? entry.parameters.encapsulation?.destinationPort : nil
    if encapsulations.note(entry.serial, port) { onEncapsulationPorts?(encapsulations.all) }
  }
}
