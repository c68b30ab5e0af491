import CCrypto
import SeededRandom

@testable import Engines

/// One packet to seal or open: the job's fields apart from pointers.
struct TestPacket {
  var association = 0
  /// SPI and sequence number; with ESN 12 bytes for AEADs.
  var header: [UInt8]
  var aad: [UInt8]
  var iv: [UInt8]
  var nonce: [UInt8]
  var text: [UInt8]
  var icv: [UInt8]
  var sequenceHigh: UInt32?

  static func random(
    _ transform: CryptoTransform, association: Int, length: Int, hasESN: Bool, using random: inout SeededGenerator
  ) -> TestPacket {
    let encryption = transform.encryption
    let header = random.bytes(8)
    let high = random.bytes(4)
    var nonce = random.bytes(16)
    if encryption == .aesCTR { nonce.replaceSubrange(12..<16, with: [0, 0, 0, 1]) }
    let aad = hasESN ? header[0..<4] + high + header[4..<8] : header[...]
    return TestPacket(
      association: association, header: header, aad: Array(aad), iv: random.bytes(encryption.ivLength), nonce: nonce,
      text: random.bytes(length - length % encryption.blockLength),
      icv: [UInt8](repeating: 0, count: transform.icvLength),
      sequenceHigh: hasESN ? high.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } : nil)
  }
}

/// Packets laid out in memory, each between canaries, and their jobs.
final class TestBurst {
  private static let margin = 32
  let packets: [TestPacket]
  let jobs: UnsafeMutablePointer<CryptoJob>
  private var buffers: [UnsafeMutableBufferPointer<UInt8>] = []

  init(_ packets: [TestPacket]) {
    self.packets = packets
    jobs = .allocate(capacity: packets.count + 1)
    UnsafeMutableRawPointer(jobs).initializeMemory(
      as: UInt8.self, repeating: 0, count: MemoryLayout<CryptoJob>.stride * (packets.count + 1))
    for (index, packet) in packets.enumerated() {
      let canary = [UInt8](repeating: 0xa5, count: Self.margin)
      let bytes = canary + packet.header + packet.iv + packet.text + packet.icv + canary
      let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
      _ = buffer.initialize(from: bytes)
      buffers.append(buffer)
      let start = buffer.baseAddress! + Self.margin
      let job = jobs + index
      let before = packet.header.count + packet.iv.count
      job.pointee.authenticated = start
      job.pointee.authenticated_length = UInt32(before + packet.text.count)
      job.pointee.text = start + before
      job.pointee.text_length = UInt32(packet.text.count)
      job.pointee.icv = start + before + packet.text.count
      crypto_job_nonce(job).update(from: packet.nonce, count: min(16, packet.nonce.count))
      crypto_job_aad(job).update(from: packet.aad, count: packet.aad.count)
      job.pointee.aad_length = UInt32(packet.aad.count)
      job.pointee.sequence_high = packet.sequenceHigh ?? 0
      job.pointee.has_sequence_high = packet.sequenceHigh == nil ? 0 : 1
      job.pointee.index = UInt16(index)
    }
  }

  deinit {
    jobs.deallocate()
    for buffer in buffers { buffer.deallocate() }
  }

  /// Which jobs succeeded.
  @discardableResult func run(_ sessions: [CryptoSession], worker: Int = 0) -> [Bool] {
    for index in packets.indices {
      let session = sessions[packets[index].association]
      jobs[index].session = session.base + session.stride * worker
      jobs[index].succeeded = 2
    }
    sessions[0].burst(jobs, packets.count)
    return packets.indices.map { jobs[$0].succeeded == 1 }
  }

  /// Everything in memory, canaries too.
  var memory: [[UInt8]] { buffers.map(Array.init) }

  func text(_ index: Int) -> [UInt8] {
    Array(UnsafeBufferPointer(start: jobs[index].text, count: Int(jobs[index].text_length)))
  }

  func icv(_ index: Int) -> [UInt8] {
    Array(UnsafeBufferPointer(start: jobs[index].icv, count: packets[index].icv.count))
  }

  /// Flips bit `bit` of byte `offset` after the first canary.
  func flip(_ index: Int, offset: Int, bit: Int) { buffers[index][Self.margin + offset] ^= 1 << bit }
}
