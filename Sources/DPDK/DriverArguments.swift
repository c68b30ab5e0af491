import Foundation

/// Arguments of a virtual device: those that the operator gave, and those that its driver needs to do what is asked of
/// the port. An argument that was given is left alone.
struct DriverArguments {
  private(set) var text: String
  private let device: PortDevice

  init(_ device: PortDevice, _ configuration: PortConfiguration) {
    self.device = device
    guard case .virtual(_, let arguments) = device else {
      text = ""
      return
    }
    text = arguments
    let queues = max(1, configuration.queues)
    switch device.driver {
    case "net_af_packet":
      // Its queues are sockets of a fanout group.
      if queues > 1 { add("qpairs", queues) }
      if configuration.mtu > 1900 {
        // A frame lies whole in a slot of the ring, 2048 bytes by default; slots fill blocks of whole pages, and a
        // slot is no larger than an mbuf.
        let slot = ((try? Mempool.dataRoom(mtu: configuration.mtu)) ?? 0) - Mempool.headroom
        add("framesz", slot)
        add("blocksz", slot * 4)
        add("framecnt", 512)
      }
    case "net_af_xdp": add("queue_count", min(queues, Self.receiveQueues(device.argument("iface") ?? "")))
    case "net_virtio_user": if queues > 1 { add("queues", queues) }
    default: break
    }
  }

  private mutating func add(_ key: String, _ value: Int) {
    guard device.argument(key) == nil else { return }
    text += (text.isEmpty ? "" : ",") + "\(key)=\(value)"
  }

  /// Of a kernel interface; at least 1.
  static func receiveQueues(_ interface: String) -> Int {
    let queues = try? FileManager.default.contentsOfDirectory(atPath: "/sys/class/net/\(interface)/queues")
    return max(1, queues?.filter { $0.hasPrefix("rx-") }.count ?? 1)
  }
}
