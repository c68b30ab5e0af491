import CCrypto
import Engines
import Foundation

/// The floor: the engine on bursts of 32 packets that lie apart, and nothing else.
enum EngineAlone {
  private static let packets = 1024
  private static let stride = 2304

  /// Nanoseconds a packet, the fastest of many passes over all packets.
  static func measure(_ testCase: Case) throws -> Double {
    guard testCase.algorithm != .forward else { return 0 }
    let engine = try Rig.engine(testCase)
    let transform = testCase.algorithm.transform(0)
    let session = try engine.makeSession(transform, direction: testCase.isInbound ? .open : .seal, workers: 1)
    defer { session.destroy() }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: packets * stride, alignment: 64)
    let jobs = UnsafeMutablePointer<CryptoJob>.allocate(capacity: packets)
    defer {
      memory.deallocate()
      jobs.deallocate()
    }
    memory.initializeMemory(as: UInt8.self, repeating: 1, count: packets * stride)
    UnsafeMutableRawPointer(jobs).initializeMemory(
      as: UInt8.self, repeating: 0, count: packets * MemoryLayout<CryptoJob>.stride)
    for (index, length) in testCase.size.lengths(packets).prefix(packets).enumerated() {
      fill(jobs + index, memory + index * stride, length, transform, session)
    }
    var best = Double.infinity
    for _ in 0..<400 {
      let start = DispatchTime.now().uptimeNanoseconds
      var first = 0
      while first < packets {
        session.burst(jobs + first, 32)
        first += 32
      }
      best = min(best, Double(DispatchTime.now().uptimeNanoseconds - start) / Double(packets))
    }
    return best
  }

  private static func fill(
    _ job: UnsafeMutablePointer<CryptoJob>, _ start: UnsafeMutableRawPointer, _ length: Int,
    _ transform: CryptoTransform, _ session: CryptoSession
  ) {
    let alignment = max(4, transform.encryption.alignment)
    let text = (length + 2 + alignment - 1) / alignment * alignment
    let header = start.assumingMemoryBound(to: UInt8.self)
    let iv = transform.encryption.ivLength
    job.pointee.session = session.base
    job.pointee.authenticated = header
    job.pointee.text = header + 8 + iv
    job.pointee.icv = header + 8 + iv + text
    job.pointee.text_length = UInt32(text)
    job.pointee.authenticated_length = UInt32(8 + iv + text)
    job.pointee.aad_length = 8
  }
}
