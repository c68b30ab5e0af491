import CLayout
import Wire

/// The SAs of one direction by what policies ask for, the newest first: by (protocol, peer), and by (protocol, peer, request
/// ID). The peer of an inbound SA is its source. Adding and removing take constant time however many SAs share a peer. Control thread only; holds no
/// references.
final class SABindingIndex {
  /// Hash → the newest SA of a list.
  private let newest = HashIndex(seed: .random(in: 0...UInt64.max), reclaimer: ImmediateReclaimer())

  func insert(_ entry: SAEntry) {
    push(entry, \.byPeer, requestID: 0)
    if entry.requestID != 0 { push(entry, \.byRequest, requestID: entry.requestID) }
  }

  func remove(_ entry: SAEntry) {
    pull(entry, \.byPeer, requestID: 0)
    if entry.requestID != 0 { pull(entry, \.byRequest, requestID: entry.requestID) }
  }

  /// The SAs that may carry packets and that `isWanted`, the best first: mature ones before those that are dying, then
  /// the newest. Ends with the first mature one that does for everything.
  func usable(
    saProtocol: SAProtocol, peer: IPAddress, requestID: UInt32, where isWanted: (SAEntry) -> Bool,
    until doesForAll: (SAEntry) -> Bool
  ) -> [SAEntry] {
    let link: ReferenceWritableKeyPath<SAEntry, AgeLink> = requestID == 0 ? \.byPeer : \.byRequest
    var next = head(saProtocol: saProtocol, peer: peer, requestID: requestID)
    var (mature, dying): ([SAEntry], [SAEntry]) = ([], [])
    while let entry = next {
      if entry.isUsable, isWanted(entry) {
        if entry.state == .mature { mature.append(entry) } else { dying.append(entry) }
        if entry.state == .mature, doesForAll(entry) { return mature }
      }
      next = entry[keyPath: link].older?.takeUnretainedValue()
    }
    return mature + dying
  }

  /// Whatever their state, the newest first.
  func newest(_ key: TunnelBinding, atMost limit: Int) -> [SAEntry] {
    let link: ReferenceWritableKeyPath<SAEntry, AgeLink> = key.requestID == 0 ? \.byPeer : \.byRequest
    var next = head(saProtocol: key.saProtocol, peer: key.peer, requestID: key.requestID)
    var found: [SAEntry] = []
    while let entry = next, found.count < limit {
      found.append(entry)
      next = entry[keyPath: link].older?.takeUnretainedValue()
    }
    return found
  }

  private func head(saProtocol: SAProtocol, peer: IPAddress, requestID: UInt32) -> SAEntry? {
    let key = TunnelBinding(saProtocol: saProtocol, peer: peer, requestID: requestID)
    let value = newest.reader.first(key: key.hash) { Self.is(Self.entry($0), key) }
    return value == 0 ? nil : Self.entry(value)
  }

  private func push(_ entry: SAEntry, _ link: ReferenceWritableKeyPath<SAEntry, AgeLink>, requestID: UInt32) {
    let key = TunnelBinding(entry, requestID: requestID)
    if let old = head(saProtocol: key.saProtocol, peer: key.peer, requestID: requestID) {
      entry[keyPath: link].older = Unmanaged.passUnretained(old)
      old[keyPath: link].newer = Unmanaged.passUnretained(entry)
      _ = newest.replace(key: key.hash, value: Self.value(old), by: Self.value(entry))
    } else {
      newest.insert(key: key.hash, value: Self.value(entry))
    }
  }

  private func pull(_ entry: SAEntry, _ link: ReferenceWritableKeyPath<SAEntry, AgeLink>, requestID: UInt32) {
    let neighbours = entry[keyPath: link]
    neighbours.older?.takeUnretainedValue()[keyPath: link].newer = neighbours.newer
    if let newer = neighbours.newer {
      newer.takeUnretainedValue()[keyPath: link].older = neighbours.older
    } else {
      let key = TunnelBinding(entry, requestID: requestID)
      if let older = neighbours.older {
        _ = newest.replace(key: key.hash, value: Self.value(entry), by: Self.value(older.takeUnretainedValue()))
      } else {
        newest.remove(key: key.hash, value: Self.value(entry))?()
      }
    }
    entry[keyPath: link] = AgeLink()
  }

  private static func `is`(_ entry: SAEntry, _ key: TunnelBinding) -> Bool {
    TunnelBinding(entry, requestID: key.requestID == 0 ? 0 : entry.requestID) == key
  }

  private static func value(_ entry: SAEntry) -> UInt64 {
    UInt64(UInt(bitPattern: Unmanaged.passUnretained(entry).toOpaque()))
  }

  private static func entry(_ value: UInt64) -> SAEntry {
    let handle = UnsafeRawPointer(bitPattern: UInt(value)).unsafelyUnwrapped
    return Unmanaged<SAEntry>.fromOpaque(handle).takeUnretainedValue()
  }
}

extension TunnelBinding {
  init(_ entry: SAEntry, requestID: UInt32) {
    self.init(
      saProtocol: entry.saProtocol, peer: entry.isInbound ? entry.source : entry.destination, requestID: requestID)
  }

  var hash: UInt64 {
    let (high, low) = peer.halves
    return SPDReader.mix(SPDReader.mix(high, low), UInt64(requestID) << 8 | UInt64(saProtocol.rawValue))
  }
}
