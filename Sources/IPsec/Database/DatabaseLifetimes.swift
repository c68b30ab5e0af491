import CLayout

/// The search for SAs that were used for the first time since it last came by: a queue that goes around.
struct FirstUseSweep {
  private var queue: [UInt32] = []
  private var head = 0

  mutating func append(_ serial: UInt32) { queue.append(serial) }

  /// What to look at in this second, out of the queue.
  mutating func take() -> [UInt32] {
    // All of a small gateway in one second, all of a large one in half a minute.
    let end = min(head + max(4_096, (queue.count - head) / 32), queue.count)
    defer {
      head = end
      if head * 2 > queue.count {
        queue.removeFirst(head)
        head = 0
      }
    }
    return Array(queue[head..<end])
  }
}

extension SecurityDatabase {
  // MARK: Time

  /// Once a second of the gateway's clock: soft and hard expiry, larval SAs and acquires that nobody answered.
  public func tick(now time: UInt64) {
    for entry in wheel.advance(to: time) where entries[entry.serial] === entry { checkTimes(entry) }
    sweepFirstUses()
    tickAcquires()
  }

  /// Sets the timer for what comes next in the life of an SA.
  func reschedule(_ entry: SAEntry) {
    let (soft, hard) = entry.lifetimes
    var next = UInt64.max
    func consider(_ limit: UInt64, since start: UInt64) {
      if limit != 0 { next = min(next, start &+ min(limit, 1 << 40)) }
    }
    if entry.state == .mature { consider(soft.addTime, since: entry.added) }
    consider(hard.addTime, since: entry.added)
    if entry.hasUseLimit {
      if entry.firstUsed == 0 {
        // Not used yet: look again often enough for the shortest limit.
        let shortest: UInt64 = [soft.useTime, hard.useTime].filter { $0 != 0 }.min() ?? 1
        next = min(next, now + min(max(shortest / 32, 1), 30))
      } else {
        if entry.state == .mature { consider(soft.useTime, since: entry.firstUsed) }
        consider(hard.useTime, since: entry.firstUsed)
      }
    }
    if next == .max { wheel.cancel(entry) } else { wheel.schedule(entry, at: next) }
  }

  private func checkTimes(_ entry: SAEntry) {
    if entry.state == .larval {
      let last = record(of: entry)
      remove(larval: entry)
      emit(.saExpired(last, hard: true))
      return
    }
    if entry.hasUseLimit, entry.firstUsed == 0 { noteFirstUse(of: entry, counterSource.counters(slot: entry.slot)) }
    if hasPassed(entry, entry.lifetimes.hard) {
      expire(entry)
    } else if entry.state == .mature, hasPassed(entry, entry.lifetimes.soft) {
      soften(entry)
      reschedule(entry)
    } else {
      reschedule(entry)
    }
  }

  private func hasPassed(_ entry: SAEntry, _ limit: Lifetime) -> Bool {
    limit.addTime != 0 && now >= entry.added &+ limit.addTime
      || limit.useTime != 0 && entry.firstUsed != 0 && now >= entry.firstUsed &+ limit.useTime
  }

  private func soften(_ entry: SAEntry) {
    entry.state = .dying
    rebindPolicies(using: entry)
    emit(.saExpired(record(of: entry), hard: false))
  }

  private func expire(_ entry: SAEntry) {
    var last = record(of: entry)
    last.state = .dead
    remove(entry)
    emit(.saExpired(last, hard: true))
  }

  // MARK: What workers report

  /// An SA reached its soft or hard limit of bytes or packets.
  public func limitReached(serial: UInt32, hard: Bool) {
    guard let entry = entries[serial], entry.isUsable else { return }
    if hard {
      expire(entry)
    } else if entry.state == .mature {
      soften(entry)
      reschedule(entry)
    }
  }

  /// Ends SAs that workers have stopped, where their word was lost.
  public func expireStopped() {
    let stopped = entries.values.filter { entry in
      guard let sa = entry.sa else { return false }
      return entry.isUsable && sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_STOPPED.rawValue != 0
    }
    for entry in stopped { expire(entry) }
  }

  /// An outbound SA has no sequence numbers left (RFC 4303 3.3.3). The worker has stopped it.
  public func sequenceExhausted(serial: UInt32) { limitReached(serial: serial, hard: true) }

  // MARK: First use

  func noteFirstUse(of entry: SAEntry, _ counted: gw_counters) {
    guard entry.firstUsed == 0 else { return }
    if counted.packets == 0 {
      entry.lastSeenUnused = now
    } else {
      // Some time since it was last seen unused; the earliest it can have been.
      entry.firstUsed = min(entry.lastSeenUnused + 1, max(now, entry.added), UInt64(counted.last_used))
      entry.firstUsed = max(entry.firstUsed, entry.added, 1)
    }
  }

  private func sweepFirstUses() {
    for serial in sweep.take() {
      guard let entry = entries[serial] else { continue }
      noteFirstUse(of: entry, counterSource.counters(slot: entry.slot))
      if entry.firstUsed == 0 { sweep.append(serial) }
    }
  }
}
