/// Deadlines of SAs in whole seconds: four wheels of 256 slots, each slot a list. Adding, moving and removing take
/// constant time whatever the number of SAs. Control thread only; holds no references.
struct TimerWheel {
  private static let bits = 8
  private static let slots = 1 << bits
  private static let levels = 4

  private var heads: [Unmanaged<SAEntry>?] = Array(repeating: nil, count: slots * levels)
  private(set) var now: UInt64
  private(set) var count = 0

  init(now: UInt64) { self.now = now }

  /// Sets or moves the deadline; one that has passed is due in the next second.
  mutating func schedule(_ entry: SAEntry, at deadline: UInt64) {
    cancel(entry)
    entry.timer.deadline = max(deadline, now + 1)
    link(entry)
    count += 1
  }

  mutating func cancel(_ entry: SAEntry) {
    guard entry.timer.wheelSlot >= 0 else { return }
    unlink(entry)
    entry.timer.deadline = 0
    count -= 1
  }

  /// Takes out all that is due until `time`, second by second.
  mutating func advance(to time: UInt64) -> [SAEntry] {
    var ready: [SAEntry] = []
    if time > now + 1_000_000 { jump(to: time) }
    while now < time {
      now += 1
      for level in 1..<Self.levels where now & ((1 << UInt64(level * Self.bits)) - 1) == 0 { cascade(level) }
      take(slot: Int(now) & (Self.slots - 1), into: &ready)
    }
    return ready
  }

  /// The clock made a leap: everything is sorted in anew.
  private mutating func jump(to time: UInt64) {
    var all: [SAEntry] = []
    for slot in heads.indices { take(slot: slot, into: &all) }
    now = time - 1
    for entry in all {
      entry.timer.deadline = max(entry.timer.deadline, time)
      link(entry)
      count += 1
    }
  }

  /// Sorts the current slot of a level into the levels below.
  private mutating func cascade(_ level: Int) {
    let slot = level * Self.slots + Int(now >> UInt64(level * Self.bits)) & (Self.slots - 1)
    var next = heads[slot]
    while let item = next?.takeUnretainedValue() {
      next = item.timer.next
      unlink(item)
      link(item)
    }
  }

  private mutating func take(slot: Int, into ready: inout [SAEntry]) {
    while let item = heads[slot]?.takeUnretainedValue() {
      unlink(item)
      count -= 1
      ready.append(item)
    }
  }

  private mutating func link(_ entry: SAEntry) {
    let deadline = entry.timer.deadline
    let distance = deadline > now ? deadline - now : 0
    var level = 0
    while level < Self.levels - 1, distance >= 1 << UInt64((level + 1) * Self.bits) { level += 1 }
    // Beyond the last wheel: as far away as it reaches, and sorted in anew when that time comes.
    let reach = UInt64(1) << UInt64(Self.levels * Self.bits)
    let time = distance >= reach ? now + reach - 1 : deadline
    let slot = level * Self.slots + Int(time >> UInt64(level * Self.bits)) & (Self.slots - 1)
    let item = Unmanaged.passUnretained(entry)
    entry.timer.wheelSlot = Int32(slot)
    entry.timer.previous = nil
    entry.timer.next = heads[slot]
    heads[slot]?.takeUnretainedValue().timer.previous = item
    heads[slot] = item
  }

  private mutating func unlink(_ entry: SAEntry) {
    let link = entry.timer
    if let previous = link.previous {
      previous.takeUnretainedValue().timer.next = link.next
    } else {
      heads[Int(link.wheelSlot)] = link.next
    }
    link.next?.takeUnretainedValue().timer.previous = link.previous
    entry.timer.previous = nil
    entry.timer.next = nil
    entry.timer.wheelSlot = -1
  }
}
