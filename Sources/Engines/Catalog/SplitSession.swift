import CCrypto

/// A session that runs each packet on the engine that is fastest at its size: one keyed session for each engine.
///
/// A burst is cut into runs of neighbours that go to the same function; order is kept.
enum SplitSession {
  private struct Record {
    /// By size class.
    var sessions: InlineArray<4, UnsafeMutableRawPointer>
    var bursts: InlineArray<4, CryptoBurst>

    @inline(__always) func session(_ size: Int) -> UnsafeMutableRawPointer { sessions[unchecked: size] }
    @inline(__always) func burst(_ size: Int) -> CryptoBurst { bursts[unchecked: size] }
  }

  /// Takes over `parts`, at least one; `pick[size]` is an index of them.
  static func make(_ parts: [CryptoSession], pick: [Int], workers: Int) -> CryptoSession {
    let chosen = SizeClass.allCases.map { parts[pick[$0.rawValue]] }
    let shared = MemoryLayout<Int>.stride + MemoryLayout<CryptoSession>.stride * parts.count
    let memory = SessionMemory(record: MemoryLayout<Record>.size, count: workers, shared: shared)
    for worker in 0..<workers {
      let sessions = chosen.map { $0.base + $0.stride * worker }
      memory.record(worker).initializeMemory(
        as: Record.self,
        to: Record(
          sessions: InlineArray { sessions[$0] }, bursts: InlineArray { chosen[$0].burst }))
    }
    memory.sharedBase.storeBytes(of: parts.count, as: Int.self)
    let owned = (memory.sharedBase + MemoryLayout<Int>.stride).assumingMemoryBound(to: CryptoSession.self)
    for (index, part) in parts.enumerated() { (owned + index).initialize(to: part) }
    return CryptoSession(
      burst: burst, base: memory.base, stride: memory.stride,
      footprint: memory.footprint + parts.reduce(0) { $0 + $1.footprint }, destroyer: destroy)
  }

  private static let destroy: crypto_destroy = { base in
    let memory = SessionMemory.of(base)
    let count = memory.sharedBase.load(as: Int.self)
    let owned = (memory.sharedBase + MemoryLayout<Int>.stride).assumingMemoryBound(to: CryptoSession.self)
    for index in 0..<count { owned[index].destroy() }
    memory.release()
  }

  private static let burst: CryptoBurst = { jobs, count in
    var first = 0
    while first < count {
      let function = aim(jobs + first)
      var end = first &+ 1
      while end < count {
        let next = jobs + end
        let record = next.pointee.session.assumingMemoryBound(to: Record.self)
        let candidate = record.pointee.burst(SizeClass.index(of: next.pointee.text_length))
        guard unsafeBitCast(candidate, to: Int.self) == unsafeBitCast(function, to: Int.self) else { break }
        _ = aim(next)
        end &+= 1
      }
      function(jobs + first, end &- first)
      while first < end {
        if let wrapped = jobs[first].wrapped { jobs[first].session = wrapped }
        first &+= 1
      }
    }
  }

  /// Puts the engine's own session into the job and returns the engine's function.
  @inline(__always)
  private static func aim(_ job: UnsafeMutablePointer<CryptoJob>) -> CryptoBurst {
    let size = SizeClass.index(of: job.pointee.text_length)
    let record = job.pointee.session.assumingMemoryBound(to: Record.self)
    job.pointee.wrapped = job.pointee.session
    job.pointee.session = record.pointee.session(size)
    return record.pointee.burst(size)
  }
}
