import Glibc

/// Random changes to valid text. The seed is printed; `FUZZ_SEED` repeats a run, `FUZZ_ROUNDS` makes it longer.
struct Mutator: RandomNumberGenerator {
  private var state: UInt64
  let rounds = getenv("FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 3_000

  init(function: String = #function) {
    state = getenv("FUZZ_SEED").flatMap { UInt64(String(cString: $0)) } ?? .random(in: 1 ... .max)
    print("\(function): FUZZ_SEED=\(state)")
  }

  /// xorshift64*.
  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }

  /// One to eight changes: bytes dropped, changed, repeated, moved; words of the language put in.
  mutating func mutate(_ text: String, vocabulary: [String]) -> String {
    var bytes = Array(text.utf8)
    for _ in 0..<Int.random(in: 1...8, using: &self) {
      let at = Int.random(in: 0...bytes.count, using: &self)
      let end = min(bytes.count, at + Int.random(in: 0...12, using: &self))
      switch Int.random(in: 0..<6, using: &self) {
      case 0: bytes.removeSubrange(at..<end)
      case 1: bytes.insert(UInt8.random(in: 0...255, using: &self), at: at)
      case 2: bytes.insert(contentsOf: bytes[at..<end], at: at)
      case 3: bytes.insert(contentsOf: (vocabulary.randomElement(using: &self) ?? "").utf8, at: at)
      case 4: bytes.insert(contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &self))
      default: if at < bytes.count { bytes[at] = UInt8.random(in: 32...126, using: &self) }
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
