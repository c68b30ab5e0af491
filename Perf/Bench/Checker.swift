import CDPDK
import DPDK
import Wire

/// Reads every packet that leaves by a port, in the call that sends it, one to each of its queues: whether they leave in
/// the order of their numbers, each once. Outbound the number is ESP's, inbound the identification of the inner packet,
/// which counts round the load.
final class Checker: @unchecked Sendable {
  /// One queue's, written by the worker that sends by it.
  fileprivate struct Queue {
    let isInbound: Bool
    /// Inbound: packets in the load, after which the numbers begin again.
    let period: UInt64
    var packets: UInt64 = 0
    /// The last number and one; 0: none yet.
    var next: UInt64 = 0
    var disorders: UInt64 = 0
    /// Outbound: the numbers seen, a bit each, up to `mostNumbers`.
    let seen: UnsafeMutablePointer<UInt64>
  }

  private static let mostNumbers = 1 << 30
  private static let words = mostNumbers / 64
  private let queues: UnsafeMutablePointer<Queue>
  private let count: Int

  /// Before the port's workers run.
  init(port: UInt16, queues count: Int, isInbound: Bool, period: Int) throws {
    self.count = count
    queues = .allocate(capacity: count)
    for index in 0..<count {
      // Pages that no number falls into are never touched.
      let seen = NodeMemory.allocate(byteCount: isInbound ? 64 : Self.words * 8, node: -1)
      (queues + index).initialize(
        to: Queue(isInbound: isInbound, period: UInt64(period), seen: seen.assumingMemoryBound(to: UInt64.self)))
      guard rte_eth_add_tx_callback(port, UInt16(index), Self.read, queues + index) != nil else {
        throw BenchError.failed("the port takes no callback")
      }
    }
  }

  private static let read: rte_tx_callback_fn = { _, _, packets, number, context in
    guard let packets, let queue = context?.assumingMemoryBound(to: Queue.self) else { return number }
    var index = 0
    while index < Int(number) {
      if let packet = packets[index] {
        note(UnsafeMutableRawPointer(packet).assumingMemoryBound(to: cdpdk_mbuf.self), queue)
      }
      index += 1
    }
    return number
  }

  @inline(__always)
  private static func note(_ mbuf: Mbuf, _ queue: UnsafeMutablePointer<Queue>) {
    let ip = UnsafeRawPointer(mbuf.data) + 14
    queue.pointee.packets &+= 1
    if queue.pointee.isInbound {
      let number = UInt64(ip.big16(at: 4))
      if queue.pointee.next != 0, number != queue.pointee.next % queue.pointee.period { queue.pointee.disorders &+= 1 }
      queue.pointee.next = number &+ 1
    } else {
      // ESP's header stands behind 20 bytes of IPv4.
      let number = UInt64(ip.big32(at: 24))
      if number < queue.pointee.next { queue.pointee.disorders &+= 1 }
      queue.pointee.next = number &+ 1
      guard number < mostNumbers else { return }
      let bit: UInt64 = 1 << (number & 63)
      if queue.pointee.seen[Int(number >> 6)] & bit != 0 { queue.pointee.disorders &+= 1 }
      queue.pointee.seen[Int(number >> 6)] |= bit
    }
  }

  struct Verdict: Codable, Sendable {
    var packets: UInt64 = 0
    /// Behind one with a higher number of the same queue, or not the one after the last.
    var disorders: UInt64 = 0
    /// By two queues.
    var duplicates: UInt64 = 0
    /// Numbers up to the highest that nobody sent.
    var missing: UInt64 = 0
    var isGood: Bool { packets > 0 && disorders == 0 && duplicates == 0 && missing == 0 }
  }

  /// After the workers have ended.
  func verdict() -> Verdict {
    var verdict = Verdict()
    var highest: UInt64 = 0
    for index in 0..<count {
      verdict.packets += queues[index].packets
      verdict.disorders += queues[index].disorders
      highest = max(highest, queues[index].next)
    }
    guard !queues[0].isInbound else { return verdict }
    var found: UInt64 = 0
    for word in 0..<Int((min(highest, UInt64(Self.mostNumbers)) + 63) / 64) {
      var union: UInt64 = 0
      for index in 0..<count {
        verdict.duplicates += UInt64((union & queues[index].seen[word]).nonzeroBitCount)
        union |= queues[index].seen[word]
      }
      found += UInt64(union.nonzeroBitCount)
    }
    // The first number is 1.
    verdict.missing = min(highest, UInt64(Self.mostNumbers)) - 1 - found
    return verdict
  }
}
