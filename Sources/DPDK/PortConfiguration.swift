/// What is asked of a port. A plain value.
public struct PortConfiguration: Sendable, Equatable {
  /// Receive and transmit queues, one for each worker; the port takes fewer if it has fewer.
  public var queues: Int
  public var receiveDescriptors = 1024
  public var transmitDescriptors = 1024
  public var mtu = 1500
  public var isPromiscuous = false
  /// All groups' frames: what the host has joined (solicited-node addresses of ND, OSPF, VRRP) is for the kernel to say.
  public var takesAllMulticast = false
  /// All mbufs that this port will ever send are of one pool and have one reference and segment.
  public var fastFree = false

  public init(queues: Int = 1) { self.queues = queues }
}

/// A port's counters since it was started, as the device has them.
public struct PortStatistics: Sendable, Equatable {
  public var receivedPackets: UInt64 = 0
  public var receivedBytes: UInt64 = 0
  public var sentPackets: UInt64 = 0
  public var sentBytes: UInt64 = 0
  /// The workers were too slow.
  public var missed: UInt64 = 0
  public var receiveErrors: UInt64 = 0
  public var sendErrors: UInt64 = 0
  /// The pool was empty.
  public var noBuffers: UInt64 = 0
  public init() {}
}

public struct PortLink: Sendable, Equatable {
  public var isUp: Bool
  /// In Mbit/s; nil: not known.
  public var speed: UInt32?
  public var isFullDuplex: Bool
}
