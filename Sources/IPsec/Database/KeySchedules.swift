import CLayout
import Engines

/// Which SAs have key schedules, at most `limit`: while there is room an SA gets one as it is installed, then when a worker
/// needs it, and one that was not used for long loses its own for it. Control thread only.
struct KeySchedules {
  /// SAs that wait; others ask again with their next packet.
  static let mostWanted = 1_024

  let limit: Int
  /// Made and not yet destroyed: those that are being given up, of which workers may still use some, count.
  var count = 0
  /// Of them.
  var leaving = 0
  /// Serials of SAs that have or had one, in the order in which they are to be looked at.
  private var ring: [UInt32] = []
  private var head = 0
  /// Serials of SAs that packets wait for.
  var wanted: [UInt32] = []
  var onMade: ((UInt32) -> Void)?
  private var lastToken: UInt32 = 0

  init(limit: Int) { self.limit = limit }

  var hasRoom: Bool { count < limit }
  var ringCount: Int { ring.count - head }

  mutating func append(_ serial: UInt32) { ring.append(serial) }

  mutating func popFirst() -> UInt32? {
    guard head < ring.count else { return nil }
    defer {
      head += 1
      if head > 1024, head * 2 > ring.count {
        ring.removeFirst(head)
        head = 0
      }
    }
    return ring[head]
  }

  /// Leaves out what `isStale`.
  mutating func compact(_ isStale: (UInt32) -> Bool) {
    ring = ring[head...].filter { !isStale($0) }
    head = 0
  }

  /// Not 0.
  mutating func nextToken() -> UInt32 {
    lastToken = lastToken == .max ? 1 : lastToken + 1
    return lastToken
  }
}

extension SecurityDatabase {
  /// Key schedules there are.
  public var scheduleCount: Int { schedules.count }
  public var scheduleLimit: Int { schedules.limit }

  /// Called with the serial of an SA that has been given its key schedule again.
  public var onKeyed: ((UInt32) -> Void)? {
    get { schedules.onMade }
    set { schedules.onMade = newValue }
  }

  /// A worker has packets for an SA that has no key schedule.
  public func keysNeeded(serial: UInt32) {
    guard let entry = entries[serial], entry.isUsable, entry.sa != nil else { return }
    if entry.leaveToken != 0 {
      // Nothing is lost yet.
      entry.leaveToken = 0
      schedules.leaving -= 1
      schedules.append(serial)
      publishKeys(of: entry)
    } else if entry.session != nil {
      publishKeys(of: entry)
    } else if schedules.wanted.count >= KeySchedules.mostWanted {
      entry.sa?.statusAtomic.pointee.bitwiseAnd(~GW_SA_KEYS_ASKED.rawValue, ordering: .relaxed)
    } else if !schedules.wanted.contains(serial) {
      schedules.wanted.append(serial)
    }
    serveWanted()
  }

  /// As `prepare` has it: now if there is room; else the engine's word that the keys are good is enough.
  func makeFirstSchedule(of entry: SAEntry, _ parameters: SAParameters) throws(DatabaseError) {
    let session = try factory.makeSession(parameters, isInbound: entry.isInbound)
    guard let session else { return }
    guard schedules.hasRoom else {
      session.destroy()
      return
    }
    entry.session = session
    schedules.count += 1
  }

  /// As `install` has it.
  func noteSchedule(of entry: SAEntry) {
    guard entry.session != nil else { return }
    schedules.append(entry.serial)
    // SAs that came and went leave their numbers.
    if schedules.ringCount > 2 * schedules.count + 4_096 { schedules.compact { entries[$0]?.session == nil } }
  }

  /// When no worker can use it.
  func destroySchedule(of entry: SAEntry) {
    if entry.leaveToken != 0 {
      entry.leaveToken = 0
      schedules.leaving -= 1
    }
    guard let session = entry.session else { return }
    session.destroy()
    entry.session = nil
    schedules.count -= 1
  }

  /// Makes schedules for those that wait, as far as there is room, and room for the others.
  private func serveWanted() {
    while let serial = schedules.wanted.first {
      guard let entry = entries[serial], entry.isUsable, entry.session == nil else {
        schedules.wanted.removeFirst()
        continue
      }
      guard schedules.hasRoom else { break }
      schedules.wanted.removeFirst()
      makeSchedule(of: entry)
    }
    while schedules.leaving < schedules.wanted.count, let entry = leastRecentlyUsed() { giveUp(entry) }
  }

  private func makeSchedule(of entry: SAEntry) {
    guard let sa = entry.sa else { return }
    guard let made = try? factory.makeSession(entry.parameters, isInbound: entry.isInbound) else {
      // For want of memory, say: the next packet asks again.
      sa.statusAtomic.pointee.bitwiseAnd(~GW_SA_KEYS_ASKED.rawValue, ordering: .relaxed)
      return
    }
    entry.session = made
    schedules.count += 1
    schedules.append(entry.serial)
    SAFactory.setSession(sa, made)
    publishKeys(of: entry)
  }

  /// The workers may use what stands in the record.
  private func publishKeys(of entry: SAEntry) {
    let marks = GW_SA_UNKEYED.rawValue | GW_SA_KEYS_ASKED.rawValue
    entry.sa?.statusAtomic.pointee.bitwiseAnd(~marks, ordering: .releasing)
    schedules.onMade?(entry.serial)
  }

  /// Of the next in turn, with their schedules: nobody remembers for a million SAs who came last.
  private func leastRecentlyUsed() -> SAEntry? {
    var best: (entry: SAEntry, used: UInt32)?
    var looks = 32
    while looks > 0, let serial = schedules.popFirst() {
      guard let entry = entries[serial], entry.session != nil, entry.leaveToken == 0 else { continue }
      looks -= 1
      let used = counterSource.counters(slot: entry.slot).last_used
      guard let other = best else {
        best = (entry, used)
        continue
      }
      schedules.append((used < other.used ? other.entry : entry).serial)
      if used < other.used { best = (entry, used) }
    }
    return best?.entry
  }

  /// No packet from the next burst on; the schedule goes when no worker can be at it.
  private func giveUp(_ entry: SAEntry) {
    let token = schedules.nextToken()
    entry.leaveToken = token
    schedules.leaving += 1
    entry.sa?.statusAtomic.pointee.bitwiseOr(GW_SA_UNKEYED.rawValue, ordering: .releasing)
    reclaimer.retire { [self] in
      guard entry.leaveToken == token else { return }
      destroySchedule(of: entry)
      entry.sa?.pointee.session = nil
      serveWanted()
    }
  }
}
