import Engines

/// Which numbers were used, of what lives and of what is gone. Control thread only.
///
/// A number of a counter-mode key is a nonce, and a nonce that stands for two packets gives both away. So such a key has
/// one outbound SA at a time, and under whichever name and by whomever it comes back, its numbers go on: a daemon that
/// moves an SA (NAT mapping, MOBIKE) deletes it and adds it again, an operator may load a key twice. SAs of `ipsec.conf`
/// go on, too, whatever their cipher, since their peer refuses what is behind its window.
///
/// With a journal that holds across restarts: numbers of static keys are reserved in it before they are used, so that
/// after a crash the gateway begins behind the reserved ones, and an SA stops where the reservation ends. Keys are in
/// neither, only fingerprints of them.
final class NumberLedger {
  /// Numbers reserved at a time besides what an SA used in the last round, and how many are left when more are reserved.
  static let step: UInt64 = 1 << 23
  static let margin: UInt64 = 1 << 22

  struct Entry {
    var kind: NumberRecord.Kind
    /// Serial of the SA that lives; 0: none.
    var holder: UInt32 = 0
    /// Not 0: may be forgotten, the lowest first.
    var stamp: UInt64 = 0
    /// Numbers up to here may have been used by SAs that are gone.
    var used: UInt64 = 0
    /// Numbers up to here are reserved in the journal.
    var reserved: UInt64 = 0

    /// What the journal has to say of it. How far the SA of a session comes nobody writes down while it lives.
    var kept: UInt64 {
      if holder == 0 { return used }
      return kind == .sessionNonces ? .max : max(used, reserved)
    }
  }

  /// Entries of SAs that are gone which are kept, and static keys; what is beyond is forgotten, or refused.
  private let mostGone: Int
  private let mostStatic: Int
  private var entries: [Fingerprint: Entry] = [:]
  private var staticCount = 0
  /// In the order in which their SAs went; one whose key came back since is passed over.
  private var gone: [(name: Fingerprint, stamp: UInt64)] = []
  private var firstGone = 0
  private var goneCount = 0
  private var lastStamp: UInt64 = 0
  var fingerprinter = Fingerprinter()
  private var journal: (any NumberJournal)?
  /// Why nothing can be reserved now; nil: it can, as far as is known.
  private(set) var failure: String?

  init(limits: DatabaseLimits) {
    mostGone = max(65_536, limits.sas)
    mostStatic = max(1 << 20, 4 * limits.sas)
  }

  /// What is known from earlier runs, under the secret that names it. Before there are SAs.
  func open(_ journal: any NumberJournal, secret: SecretBytes, records: [NumberRecord]) {
    self.journal = journal
    fingerprinter = Fingerprinter(secret: secret)
    for record in records {
      edit(record.name, record.kind) {
        $0.used = max($0.used, record.number)
        $0.reserved = $0.used
      }
    }
    for record in records { letGo(record.name) }
    rewrite()
  }

  subscript(name: Fingerprint) -> Entry? { entries[name] }

  private func edit(_ name: Fingerprint, _ kind: NumberRecord.Kind, _ body: (inout Entry) -> Void) {
    var entry = entries[name] ?? Entry(kind: kind)
    let wasStatic = entries[name]?.kind == .staticNonces
    // A key that was static once may be so again.
    if kind == .staticNonces { entry.kind = .staticNonces }
    if entry.kind == .staticNonces, !wasStatic {
      staticCount += 1
      if entry.stamp != 0 { goneCount -= 1 }
      entry.stamp = 0
    }
    body(&entry)
    entries[name] = entry
  }

  // MARK: SAs

  /// Throws if there is no room for what an SA with this name would leave behind.
  func checkRoom(_ name: NumberName) throws(DatabaseError) {
    guard name.kind == .staticNonces, self[name.fingerprint]?.kind != .staticNonces, staticCount >= mostStatic else {
      return
    }
    throw .full("\(mostStatic) static counter-mode keys are remembered, and none may be forgotten")
  }

  /// An SA lives that has this name; it uses numbers behind `used`.
  func hold(_ name: NumberName, by serial: UInt32) {
    edit(name.fingerprint, name.kind) { $0.holder = serial }
    guard self[name.fingerprint]?.stamp ?? 0 != 0 else { return }
    entries[name.fingerprint]?.stamp = 0
    goneCount -= 1
  }

  /// The SA is gone; numbers up to `used` may have been used.
  func release(_ name: NumberName, by serial: UInt32, used: UInt64) {
    edit(name.fingerprint, name.kind) {
      $0.used = max($0.used, used)
      if $0.holder == serial { $0.holder = 0 }
    }
    if self[name.fingerprint]?.holder == 0 { letGo(name.fingerprint) }
  }

  /// The oldest are forgotten, but for static keys.
  private func letGo(_ name: Fingerprint) {
    guard let entry = self[name], entry.kind != .staticNonces else { return }
    if entry.stamp == 0 { goneCount += 1 }
    lastStamp += 1
    entries[name]?.stamp = lastStamp
    gone.append((name, lastStamp))
    while goneCount > mostGone {
      let oldest = gone[firstGone]
      firstGone += 1
      guard self[oldest.name]?.stamp == oldest.stamp else { continue }
      entries[oldest.name] = nil
      goneCount -= 1
    }
    guard gone.count > 3 * mostGone else { return }
    gone = gone[firstGone...].filter { self[$0.name]?.stamp == $0.stamp }
    firstGone = 0
  }

  // MARK: Reservations

  var hasJournal: Bool { journal != nil }

  /// Reserves in the journal; with an error nothing has changed.
  func reserve(_ records: [NumberRecord]) throws(NumberJournalError) {
    try write(records, isSynced: true)
  }

  /// What may be lost with the machine, but not with the process, and what nothing waits for.
  func note(_ records: [NumberRecord]) { try? write(records, isSynced: false) }

  private func write(_ records: [NumberRecord], isSynced: Bool) throws(NumberJournalError) {
    guard let journal, !records.isEmpty else { return }
    do throws(NumberJournalError) {
      if !journal.takesMore {
        // Nobody waits for a note: it is in what `tidy` writes.
        guard isSynced else { return }
        try writeAnew(journal)
      }
      try journal.append(records, isSynced: isSynced)
    } catch {
      failure = error.description
      throw error
    }
    failure = nil
    for record in records {
      edit(record.name, record.kind) {
        $0.reserved = max($0.reserved, record.number)
        if record.kind == .window { $0.used = $0.reserved }
      }
    }
  }

  /// Writes the journal anew where most of it is out of date, or where it had to be given up.
  func tidy() {
    guard let journal, !journal.takesMore || journal.recordCount > 2 * entries.count + 65_536 else { return }
    rewrite()
  }

  /// The journal anew: of what is gone with the numbers as they are.
  func rewrite() {
    guard let journal else { return }
    do throws(NumberJournalError) {
      try writeAnew(journal)
      failure = nil
    } catch {
      failure = error.description
    }
  }

  private func writeAnew(_ journal: any NumberJournal) throws(NumberJournalError) {
    // Of some nothing came of what was reserved.
    entries = entries.filter { $0.value.holder != 0 || $0.value.used != 0 || $0.value.stamp != 0 }
    staticCount = entries.values.count { $0.kind == .staticNonces }
    try journal.replace(
      entries.map { name, entry in NumberRecord(name: name, kind: entry.kind, number: entry.kept) })
    for index in entries.indices { entries.values[index].reserved = entries.values[index].kept }
  }
}
