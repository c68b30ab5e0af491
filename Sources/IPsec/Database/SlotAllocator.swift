/// Numbers for the workers' counters: 1 ... `capacity`, the lowest unused first until all have been used once.
struct SlotAllocator {
  let capacity: UInt32
  private var next: UInt32 = 1
  private var free: [UInt32] = []

  init(capacity: Int) { self.capacity = UInt32(clamping: capacity) }

  mutating func allocate() -> UInt32? {
    if let slot = free.popLast() { return slot }
    guard next <= capacity else { return nil }
    defer { next += 1 }
    return next
  }

  mutating func release(_ slot: UInt32) { free.append(slot) }
}
