import ConfigurationFiles
import Engines
import Glibc
import IPsec
import Wire

/// A rule that a key daemon cannot carry out, and why.
public struct IKERefusal: Error, Sendable, Hashable, Codable {
  public var connection: String
  public var reason: String
}

/// Rules that hang on one IKE SA, in order. Where they differ in what belongs to the IKE SA, the last counts, as in
/// isakmpd, whose sections they would overwrite; but the transforms of all are proposed.
struct IKEPeer {
  var name: String
  var connections: [IKEConnection]

  var last: IKEConnection { connections[connections.count - 1] }

  static func grouped(_ connections: [IKEConnection]) -> [IKEPeer] {
    var peers: [IKEPeer] = []
    var index: [String: Int] = [:]
    for connection in connections {
      if let known = index[connection.peerName] {
        // A rule that stands twice is there once, as the last has it.
        peers[known].connections.removeAll { $0.name == connection.name }
        peers[known].connections.append(connection)
      } else {
        index[connection.peerName] = peers.count
        peers.append(IKEPeer(name: connection.peerName, connections: [connection]))
      }
    }
    return peers
  }
}

extension IKEConnection {
  /// What no daemon can do for this gateway.
  func common() throws(IKERefusal) {
    func refuse(_ reason: String) -> IKERefusal { IKERefusal(connection: name, reason: reason) }
    if let interface {
      throw refuse("interface sec\(interface): the gateway has no sec(4) interfaces; name the networks")
    }
    if let sourceNAT { throw refuse("(\(sourceNAT)): the gateway does no address translation before IPsec") }
    guard saProtocol == .esp || saProtocol == .ah else { throw refuse("ike is for esp and ah") }
    if name.utf8.count > 255 || peerName.utf8.count > 255 { throw refuse("names of more than 255 bytes") }
  }

  var isPSK: Bool {
    if case .psk = authentication { true } else { false }
  }
}

public enum IKEHost {
  /// As gethostname(2) has it: the identity of `dynamic` rules that name none.
  public static var name: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 257) { buffer in
      buffer.initialize(repeating: 0)
      guard let base = buffer.baseAddress, gethostname(base, 256) == 0 else { return "" }
      return String(cString: base)
    }
  }
}
