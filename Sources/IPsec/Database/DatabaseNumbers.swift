import CLayout
import Engines

/// What the numbers of an SA are kept under.
struct NumberName: Hashable {
  var fingerprint: Fingerprint
  var kind: NumberRecord.Kind
}

/// An SA whose numbers are kept across restarts.
struct NumberedSA {
  var name: NumberName
  /// Its number when it was last looked at.
  var last: UInt64 = 0
}

/// The numbers of SAs: who may use which, and what stays of it.
extension SecurityDatabase {
  /// Keeps numbers in `journal`; `records` is what is there. Before there are SAs.
  public func keepNumbers(in journal: any NumberJournal, secret: SecretBytes, records: [NumberRecord]) {
    ledger.open(journal, secret: secret, records: records)
  }

  /// Why no numbers can be reserved at the moment.
  public var numberFailure: String? { ledger.failure }

  // MARK: Names

  /// Of a counter-mode key: SAs that share it share their nonces. Nil where numbers make no nonces.
  func nonceName(_ parameters: SAParameters) -> NumberName? {
    let transform = parameters.transform
    let isChaCha = transform.encryption == .chacha20Poly1305
    let key: SecretBytes
    let saltLength: Int
    if parameters.saProtocol == .esp, transform.encryption.isCounterMode {
      (key, saltLength) = (transform.encryptionKey, transform.encryption.saltLength)
    } else if parameters.saProtocol == .ah, transform.authentication == .aesGMAC {
      (key, saltLength) = (transform.authenticationKey, 4)
    } else {
      return nil
    }
    guard key.count > saltLength else { return nil }
    // With what stands before the IV in a block of the counter: all modes of AES count alike (RFC 3610 2.3: a byte 3
    // leads the salt of CCM).
    let salt = (saltLength == 3 ? [3] : []) + Array(key.bytes.suffix(saltLength))
    let fingerprint = ledger.fingerprinter.fingerprint(
      "nonces of \(isChaCha ? "ChaCha20" : "AES") behind \(salt)",
      [UnsafeRawBufferPointer(rebasing: key.bytes.dropLast(saltLength))])
    let isStatic = parameters.owner == .configuration || !isKeyDaemon(parameters.owner)
    return NumberName(fingerprint: fingerprint, kind: isStatic ? .staticNonces : .sessionNonces)
  }

  /// Nil: nothing is kept of it.
  private func numberName(_ parameters: SAParameters, isInbound: Bool) -> NumberName? {
    if !isInbound, let name = nonceName(parameters) { return name }
    guard parameters.owner == .configuration, parameters.saProtocol == .esp || parameters.saProtocol == .ah else {
      return nil
    }
    // With other keys the same SA begins anew.
    let fingerprint = ledger.fingerprinter.fingerprint(
      "\(isInbound ? "window" : "numbers") of \(parameters.identifier) from \(parameters.source)",
      [parameters.transform.encryptionKey.bytes, parameters.transform.authenticationKey.bytes])
    return NumberName(fingerprint: fingerprint, kind: isInbound ? .window : .numbers)
  }

  // MARK: Coming and going

  /// Whether a new SA may have the numbers of its key, `removed` gone.
  func checkNumbers(
    _ parameters: SAParameters, isInbound: Bool, beside removed: Set<SAIdentifier>
  ) throws(DatabaseError) {
    guard !isInbound, let name = nonceName(parameters) else { return }
    if let holder = holder(of: name), !removed.contains(holder.identifier) {
      throw .keyInUse(by: holder.identifier.description)
    }
    try ledger.checkRoom(name)
    guard let known = ledger[name.fingerprint], known.used >= SAFactory.sequenceEnd(parameters) - 1 else { return }
    throw .invalid("all numbers of this counter-mode key were used, or may have been; it needs a new one")
  }

  private func holder(of name: NumberName) -> SAEntry? {
    ledger[name.fingerprint].flatMap { $0.holder == 0 ? nil : entries[$0.holder] }
  }

  /// Who has the counter-mode keys of `made` now.
  func holders(of made: [SAEntry]) -> Set<SAIdentifier> {
    Set(
      made.compactMap { entry in
        entry.isInbound ? nil : nonceName(entry.parameters).flatMap { holder(of: $0)?.identifier }
      })
  }

  /// Behind what was used, and behind what an SA that still lives can use until it is gone.
  private func lastUsed(_ name: NumberName) -> UInt64 {
    let used = ledger[name.fingerprint]?.used ?? 0
    guard let sa = holder(of: name)?.sa else { return used }
    return max(used, sa.sequenceAtomic.pointee.load(ordering: .relaxed) &+ Self.sequenceSkip)
  }

  /// Reserves the first numbers of SAs that are to be installed.
  func reserveNumbers(for sas: [SAParameters]) throws(DatabaseError) {
    guard ledger.hasJournal else { return }
    let records = sas.compactMap { isInbound($0) ? nil : firstNumbers(of: $0) }
    do throws(NumberJournalError) { try ledger.reserve(records.filter { $0.kind != .sessionNonces }) } catch {
      throw .full("its sequence numbers cannot be reserved: \(error)")
    }
    ledger.note(records.filter { $0.kind == .sessionNonces })
  }

  /// Reserves at once for SAs that are to be added one by one, each of which finds it done then.
  public func reserveNumbers(ahead sas: [SAParameters]) {
    try? reserveNumbers(
      for: sas.filter { sa in
        guard find(sa.identifier) == nil, (try? SAFactory.validate(sa, permits)) != nil else { return false }
        return (try? checkNumbers(sa, isInbound: isInbound(sa), beside: [])) != nil
      })
  }

  /// What an outbound SA has to have in the journal before it is installed; nil: nothing, or it is there.
  private func firstNumbers(of sa: SAParameters) -> NumberRecord? {
    guard let name = numberName(sa, isInbound: false) else { return nil }
    let known = ledger[name.fingerprint]
    if name.kind == .sessionNonces {
      // Should it come back after a crash, nobody knows how far it came.
      return known?.reserved == .max ? nil : NumberRecord(name: name.fingerprint, kind: name.kind, number: .max)
    }
    let first = max(sa.sequence, lastUsed(name))
    let end = max(SAFactory.sequenceEnd(sa), first)
    if let known, known.kind == name.kind, known.reserved >= min(first &+ NumberLedger.margin, end) { return nil }
    return NumberRecord(name: name.fingerprint, kind: name.kind, number: min(first &+ NumberLedger.step, end))
  }

  /// An SA that is installed goes on where its key, or the same SA before, was.
  func takeNumbers(_ entry: SAEntry, _ sa: UnsafeMutablePointer<gw_sa>) {
    guard let name = numberName(entry.parameters, isInbound: entry.isInbound) else { return }
    if entry.isInbound {
      ReplayWindow.advance(sa, to: lastUsed(name))
    } else {
      sa.pointee.sequence = max(sa.pointee.sequence, lastUsed(name))
    }
    ledger.hold(name, by: entry.serial)
    guard name.kind != .sessionNonces else { return }
    numbered[entry.serial] = NumberedSA(name: name, last: sa.pointee.sequence)
    if !entry.isInbound { raiseLimit(sa, name) }
  }

  /// An SA goes: what the workers that still have it in hand can use counts as used.
  func releaseNumbers(_ entry: SAEntry, _ sa: UnsafeMutablePointer<gw_sa>) {
    let numbered = numbered.removeValue(forKey: entry.serial)
    let name = numbered?.name ?? (entry.isInbound ? nil : nonceName(entry.parameters))
    guard let name else { return }
    if entry.isInbound {
      ledger.release(name, by: entry.serial, used: sa.replayHighestAtomic.pointee.load(ordering: .relaxed))
    } else {
      let used = sa.sequenceAtomic.pointee.load(ordering: .relaxed) &+ Self.sequenceSkip
      ledger.release(name, by: entry.serial, used: min(used, sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed)))
    }
  }

  // MARK: While they live

  /// As far as the journal has it.
  private func raiseLimit(_ sa: UnsafeMutablePointer<gw_sa>, _ name: NumberName) {
    guard ledger.hasJournal, let known = ledger[name.fingerprint] else { return }
    SAFactory.setSequenceLimit(sa, min(sa.sequenceEnd, known.reserved))
  }

  /// Reserves more where little is left, and notes how far inbound SAs are. Four times a second.
  public func reserveNumbers() {
    guard ledger.hasJournal else { return }
    ledger.tidy()
    var records: [NumberRecord] = []
    var windows: [NumberRecord] = []
    var short: [UInt32] = []
    for index in numbered.indices {
      let (serial, known) = numbered[index]
      guard let entry = entries[serial], let sa = entry.sa else { continue }
      if entry.isInbound {
        let highest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
        guard highest > ledger[known.name.fingerprint]?.used ?? 0 else { continue }
        windows.append(NumberRecord(name: known.name.fingerprint, kind: .window, number: highest))
      } else if let record = reservation(sa, known) {
        records.append(record)
        short.append(serial)
      }
      numbered.values[index].last = sa.sequenceAtomic.pointee.load(ordering: .relaxed)
    }
    try? ledger.reserve(records + windows)
    release(short)
    heldSAs = short.count { isHeld($0) }
  }

  /// Of some SAs now.
  func reserveNumbers(of serials: [UInt32]) {
    let records = serials.compactMap { serial in
      entries[serial]?.sa.flatMap { sa in numbered[serial].flatMap { reservation(sa, $0) } }
    }
    try? ledger.reserve(records)
    release(serials)
  }

  /// What an SA has to reserve now: more than it used since it was last looked at.
  private func reservation(_ sa: UnsafeMutablePointer<gw_sa>, _ numbered: NumberedSA) -> NumberRecord? {
    let sequence = sa.sequenceAtomic.pointee.load(ordering: .relaxed)
    let pace = sequence &- min(numbered.last, sequence)
    let reserved = ledger[numbered.name.fingerprint]?.reserved ?? 0
    guard reserved < sa.sequenceEnd, sequence &+ max(NumberLedger.margin, 2 &* pace) > reserved else { return nil }
    let wanted = min(sequence &+ NumberLedger.step &+ 8 &* pace, sa.sequenceEnd)
    return NumberRecord(name: numbered.name.fingerprint, kind: numbered.name.kind, number: wanted)
  }

  /// SAs carry on as far as the journal has it.
  private func release(_ serials: [UInt32]) {
    for serial in serials {
      guard let sa = entries[serial]?.sa else { continue }
      if let numbered = numbered[serial] { raiseLimit(sa, numbered.name) }
      let limit = sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed)
      guard sa.sequenceAtomic.pointee.load(ordering: .relaxed) &+ 1 < limit else { continue }
      sa.statusAtomic.pointee.bitwiseAnd(~GW_SA_HELD.rawValue, ordering: .releasing)
    }
  }

  private func isHeld(_ serial: UInt32) -> Bool {
    guard let sa = entries[serial]?.sa else { return false }
    return sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_HELD.rawValue != 0
  }

  /// A worker has come to the end of what is reserved for an SA, which it has stopped. Returns whether it still is.
  public func numbersNeeded(serial: UInt32) -> Bool {
    reserveNumbers(of: [serial])
    return isHeld(serial)
  }

  /// At an orderly stop nothing more is used: the numbers as they are.
  public func saveNumbers() {
    for (serial, known) in numbered {
      guard let entry = entries[serial], let sa = entry.sa else { continue }
      let field = entry.isInbound ? sa.replayHighestAtomic : sa.sequenceAtomic
      ledger.release(known.name, by: serial, used: field.pointee.load(ordering: .relaxed))
    }
    numbered = [:]
    ledger.rewrite()
  }
}
