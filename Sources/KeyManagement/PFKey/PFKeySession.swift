import Glibc
import IPsec

/// One client of the PF_KEY socket. Control thread only.
///
/// The dialect is Linux's until the client says otherwise: by a hello, or by the first socket address it sends, which
/// in OpenBSD's begins with a length. The hello is a message of type SADB_RESERVED (0), which no daemon sends:
///
///     sadb_msg_version 2, sadb_msg_type 0, sadb_msg_satype 1 (Linux) or 2 (OpenBSD), sadb_msg_len 2
///
/// It is answered with the same message. A client that registers before it sends addresses and is not on Linux's
/// numbers needs it, for the SA types differ.
public final class PFKeySession: KeySession {
  let service: PFKeyService
  let owner: Owner
  let origin: UInt64
  private let output: KeyOutput
  private(set) var dialect = PFKeyDialect.linux
  private var isDialectKnown = false
  private(set) var isPromiscuous = false
  private var registered: Set<SAProtocol> = []
  private var dump: PFKeyDump?
  private var isClosed = false
  public private(set) var refusals: UInt64 = 0

  init(service: PFKeyService, owner: Owner, origin: UInt64, output: @escaping KeyOutput) {
    self.service = service
    self.owner = owner
    self.origin = origin
    self.output = output
  }

  public var isListener: Bool { !registered.isEmpty }

  /// PF_KEY has no word for it.
  public var overrunNotice: [UInt8]? { nil }

  public func close() {
    isClosed = true
    dump = nil
    service.remove(self)
  }

  func isRegistered(for saProtocol: SAProtocol?) -> Bool {
    saProtocol.map(registered.contains) ?? !registered.isEmpty
  }

  func notify(_ datagram: [UInt8]) {
    if !isClosed { output(datagram, .notice) }
  }

  private func reply(_ datagram: [UInt8]) {
    guard !isClosed else { return }
    service.overhear(datagram, dialect: dialect, but: self)
    output(datagram, .reply)
  }

  public func receive(_ datagram: UnsafeRawBufferPointer) {
    var cursor = ByteCursor(datagram)
    let header = PFKeyHeader(from: &cursor)
    do throws(KeyRefusal) {
      if try greet(header, datagram) { return }
      detectDialect(datagram)
      try check(header, datagram)
      guard let type = PFKeyMessageType(header.type, dialect) else {
        throw KeyRefusal(EINVAL, "unknown message type \(header.type)")
      }
      service.overhear(datagram, dialect: dialect, but: self)
      if try togglePromiscuity(type, header, datagram) { return }
      let body = UnsafeRawBufferPointer(rebasing: datagram[PFKeyHeader.length...])
      try answer(type, header, PFKeyExtensions(body, type: type, dialect: dialect))
    } catch {
      refuse(header, error)
    }
  }

  private func check(_ header: PFKeyHeader, _ datagram: UnsafeRawBufferPointer) throws(KeyRefusal) {
    let wrongLength = dialect == .linux ? EMSGSIZE : EINVAL
    guard datagram.count >= PFKeyHeader.length else { throw KeyRefusal(wrongLength, "shorter than its header") }
    guard header.version == PFKeyHeader.version else { throw .invalid("version \(header.version)") }
    guard header.reserved == 0 else { throw .invalid("the reserved field is set") }
    guard Int(header.words) * 8 == datagram.count else {
      throw KeyRefusal(wrongLength, "length \(Int(header.words) * 8) in a datagram of \(datagram.count)")
    }
    guard header.code == 0 || dialect == .linux else { throw .invalid("errno is set") }
  }

  private func refuse(_ header: PFKeyHeader, _ refusal: KeyRefusal) {
    refusals += 1
    var own = header
    own.version = PFKeyHeader.version
    own.reserved = 0
    answer(own, code: UInt8(clamping: refusal.code)) { _ in }
  }

  // MARK: Answers

  /// Numbers of the request come back: sequence and process are how a client knows its answer.
  func answer(_ header: PFKeyHeader, code: UInt8 = 0, _ body: (inout ByteBuilder) -> Void) {
    var header = header
    header.code = code
    var builder = ByteBuilder()
    builder.pfkey(header, body)
    reply(builder.bytes)
  }

  func writing(_ record: SARecord) -> PFKeySAWriting {
    PFKeySAWriting(record: record, dialect: dialect, policy: service.policy)
  }

  // MARK: Dialect

  private func greet(_ header: PFKeyHeader, _ datagram: UnsafeRawBufferPointer) throws(KeyRefusal) -> Bool {
    guard header.type == 0, header.version == PFKeyHeader.version, datagram.count == PFKeyHeader.length else {
      return false
    }
    guard let dialect = PFKeyDialect(rawValue: header.saType), header.reserved == 0 else {
      throw .invalid("unknown dialect \(header.saType)")
    }
    guard !isDialectKnown || dialect == self.dialect else { throw .invalid("the dialect is settled") }
    self.dialect = dialect
    isDialectKnown = true
    answer(header) { _ in }
    return true
  }

  /// By the first socket address of a message: Linux's begins with a family of 16 bits, OpenBSD's with its length.
  private func detectDialect(_ datagram: UnsafeRawBufferPointer) {
    guard !isDialectKnown, datagram.count >= PFKeyHeader.length else { return }
    var rest = UnsafeRawBufferPointer(rebasing: datagram[PFKeyHeader.length...])
    while rest.count >= 16 {
      let (words, type) = (
        Int(rest.loadUnaligned(as: UInt16.self)), rest.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
      )
      guard words > 0, words * 8 <= rest.count else { return }
      // Source, destination; OpenBSD's masks and flows.
      if words >= 2, [5, 6, 7, 17, 18, 21, 22].contains(type), settleDialect(rest[8], rest[9]) { return }
      rest = UnsafeRawBufferPointer(rebasing: rest[(words * 8)...])
    }
  }

  private func settleDialect(_ first: UInt8, _ second: UInt8) -> Bool {
    switch (first, second) {
    case (2, 0), (10, 0): dialect = .linux
    case (16, 2), (28, 24), (28, 10): dialect = .openBSD
    default: return false
    }
    isDialectKnown = true
    return true
  }

  // MARK: Registration and promiscuity

  func register(_ header: PFKeyHeader) throws(KeyRefusal) {
    let saProtocol = dialect.saProtocol(header.saType)
    guard saProtocol != nil || header.saType == 0 else { throw .invalid("unknown SA type \(header.saType)") }
    if let saProtocol {
      guard registered.insert(saProtocol).inserted || dialect == .openBSD else {
        throw KeyRefusal(EEXIST, "registered already")
      }
    }
    let algorithms = PFKeyAlgorithms(dialect: dialect, policy: service.policy)
    answer(header) { algorithms.appendSupported(to: &$0) }
  }

  /// SADB_X_PROMISC alone switches; with a message inside, that goes to every other client of the dialect.
  private func togglePromiscuity(
    _ type: PFKeyMessageType, _ header: PFKeyHeader, _ datagram: UnsafeRawBufferPointer
  ) throws(KeyRefusal) -> Bool {
    guard type == .promiscuous else { return false }
    if datagram.count >= 2 * PFKeyHeader.length {
      for other in service.sessions.values where other !== self && other.dialect == dialect {
        other.notify(Array(datagram))
      }
    } else {
      guard header.saType <= 1 else { throw .invalid("promiscuous mode is 0 or 1") }
      isPromiscuous = header.saType == 1
    }
    answer(header) { _ in }
    return true
  }

  // MARK: Dumps

  func begin(_ dump: PFKeyDump) throws(KeyRefusal) {
    guard self.dump == nil else { throw KeyRefusal(EBUSY, "a dump is under way") }
    guard !dump.isEmpty else { throw KeyRefusal(ENOENT, "nothing to dump") }
    self.dump = dump
  }

  public func resume() -> Bool {
    guard !isClosed, var current = dump else { return false }
    let datagram = current.next(self)
    dump = current.isEmpty ? nil : current
    reply(datagram)
    return true
  }
}

/// A dump that is under way: one message a datagram, the sequence number counting down to 0.
struct PFKeyDump {
  enum Entries {
    case sas(ArraySlice<SARecord>)
    case policies(ArraySlice<PolicyRecord>)
  }

  let header: PFKeyHeader
  private var entries: Entries

  init(header: PFKeyHeader, entries: Entries) {
    self.header = header
    self.entries = entries
  }

  var count: Int {
    switch entries {
    case .sas(let rest): rest.count
    case .policies(let rest): rest.count
    }
  }

  var isEmpty: Bool { count == 0 }

  mutating func next(_ session: PFKeySession) -> [UInt8] {
    var header = header
    header.code = 0
    header.sequence = UInt32(clamping: count - 1)
    var builder = ByteBuilder()
    switch entries {
    case .sas(var rest):
      let record = rest.removeFirst()
      entries = .sas(rest)
      header.saType = session.dialect.saType(record.parameters.saProtocol)
      builder.pfkey(header) { session.writing(record).appendEverything(to: &$0) }
    case .policies(var rest):
      let record = rest.removeFirst()
      entries = .policies(rest)
      if session.dialect == .openBSD { header.saType = session.dialect.saType(record.parameters.saProtocol) }
      builder.pfkey(header) { builder in
        if session.dialect == .linux { builder.appendPolicy(record) } else { builder.appendFlow(record) }
      }
    }
    return builder.bytes
  }
}
