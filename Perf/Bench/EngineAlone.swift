import CCrypto
import CDPDK
import Engines
import Foundation

/// The floor: the engine on bursts of 32 packets that lie apart, and nothing else; on the worker's core, and in samples as
/// long and as many as the path's, so that one can be taken from the other.
enum EngineAlone {
  private static let packets = 1024
  private static let spacing = 2304

  /// Nanoseconds a packet, of the fastest sample.
  static func measure(_ testCase: Case) throws -> Double {
    guard testCase.algorithm != .forward else { return 0 }
    let engine = try Rig.engine(testCase)
    let transform = testCase.algorithm.transform(0)
    let session = try engine.makeSession(transform, direction: testCase.isInbound ? .open : .seal, workers: 1)
    defer { session.destroy() }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: packets * spacing, alignment: 64)
    let jobs = UnsafeMutablePointer<CryptoJob>.allocate(capacity: packets)
    defer {
      memory.deallocate()
      jobs.deallocate()
    }
    memory.initializeMemory(as: UInt8.self, repeating: 1, count: packets * spacing)
    UnsafeMutableRawPointer(jobs).initializeMemory(
      as: UInt8.self, repeating: 0, count: packets * MemoryLayout<CryptoJob>.stride)
    for (index, length) in testCase.size.lengths(packets).prefix(packets).enumerated() {
      fill(jobs + index, memory + index * spacing, length, transform, session)
    }
    pin(to: testCase.core)
    return (0..<testCase.samples).map { _ in
      sample(session.burst, jobs, nanoseconds: UInt64(testCase.milliseconds) * 1_000_000)
    }.min() ?? .infinity
  }

  /// The calling thread.
  private static func pin(to core: Int) {
    var words = [UInt64](repeating: 0, count: 16)
    words[core / 64] |= 1 << (core % 64)
    cdpdk_affinity_set(words, Int32(words.count))
  }

  private static func sample(
    _ burst: CryptoBurst, _ jobs: UnsafeMutablePointer<CryptoJob>, nanoseconds: UInt64
  ) -> Double {
    let start = DispatchTime.now().uptimeNanoseconds
    var passed: UInt64 = 0
    var done = 0
    while passed < nanoseconds {
      for first in stride(from: 0, to: packets, by: 32) { burst(jobs + first, 32) }
      done += packets
      passed = DispatchTime.now().uptimeNanoseconds - start
    }
    return Double(passed) / Double(done)
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
