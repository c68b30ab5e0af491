import DataPlane
import Foundation
import Logging

/// The gateway's own UDP ports that IKE and ESP in UDP go by: those of the key daemon's sockets, and those that SAs name.
struct LocalPorts {
  var daemon = KeyDaemonSockets.Summary()
  /// Until then a socket that was named is looked at again and again: daemons bind theirs a moment later.
  var settlingUntil = ContinuousClock.now
}

extension Gateway {
  /// A daemon names one of its IKE sockets.
  func nameIKESocket(_ descriptor: Int32, takesESP: Bool) -> Int32 {
    let refusal = dataPlane.host.keyDaemonSockets.name(descriptor, takesESP: takesESP)
    if refusal == 0 {
      localPorts.settlingUntil = .now + .seconds(10)
      refreshLocalPorts()
    }
    return refusal
  }

  /// Every few milliseconds.
  func settleLocalPorts() {
    if localPorts.daemon.isSettling, .now < localPorts.settlingUntil { refreshLocalPorts() }
  }

  func refreshLocalPorts() {
    let old = localPorts.daemon
    let new = dataPlane.host.keyDaemonSockets.refresh()
    localPorts.daemon = new
    guard new != old else { return }
    publishLocalPorts()
    if new.ports != old.ports { logger.info("UDP ports of key daemons: \(Self.list(new.ports))") }
    if !new.shared.isEmpty, new.shared != old.shared {
      logger.warning(
        "UDP ports \(Self.list(new.shared)) are other programs', too: what the key daemon sends from them goes by policy"
      )
    }
  }

  /// For workers. What flow caches know was decided by the ports before.
  func publishLocalPorts() {
    let shared = dataPlane.shared
    let encapsulation = localPorts.daemon.encapsulationPorts.union(database.encapsulationPorts)
    let isSame = !shared.pointee.ikePorts.set(localPorts.daemon.ports)
    if !shared.pointee.encapsulationPorts.set(encapsulation.subtracting([500, 4500])), isSame { return }
    routesChanged()
  }

  private static func list(_ ports: Set<UInt16>) -> String {
    ports.isEmpty ? "none" : ports.sorted().map(String.init).joined(separator: ", ")
  }
}
