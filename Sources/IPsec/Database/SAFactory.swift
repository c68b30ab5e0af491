import CLayout
import Engines
import Wire

/// Makes what the workers see of an SA from what is asked of it. Control thread only.
struct SAFactory {
  let engine: any CryptoEngine
  let workers: Int
  let slab: Slab<gw_sa>

  /// A packet with TFC padding is not made longer than this, outer headers included.
  private static let tfcPacketLimit = 1500

  init(engine: any CryptoEngine, workers: Int) {
    self.engine = engine
    self.workers = workers
    slab = Slab()
  }

  /// Whether the parameters make an SA at all, apart from their keys.
  static func validate(
    _ parameters: SAParameters, _ permits: SecurityDatabase.Permits
  ) throws(DatabaseError) {
    let p = parameters
    guard p.source.family == p.destination.family else {
      throw .invalid("source \(p.source) and destination \(p.destination) differ in family")
    }
    guard !p.destination.isUnspecified else { throw .invalid("an SA needs a destination") }
    try validate(sequence: p.sequence)
    switch p.saProtocol {
    case .esp, .ah:
      guard p.spi > 255 || permits.lowSPIs && p.spi != 0 else {
        let advice = p.spi == 0 ? "" : "; `low-spis: true` in gateway.yaml permits it"
        throw .invalid("SPI \(p.spi) is reserved (RFC 4303 2.1)\(advice)")
      }
    case .ipcomp:
      guard p.spi <= 0xffff else { throw .invalid("the SPI of ipcomp is a CPI of 16 bits, \(p.spi) is larger") }
    case .ipip: break
    }
    if p.saProtocol == .ipip, p.mode != .tunnel { throw .invalid("ipip has no transport mode") }
    if p.encapsulation != nil, p.saProtocol != .esp { throw .invalid("UDP encapsulation is for esp only") }
    if p.saProtocol == .ah, p.transform.authentication == nil { throw .invalid("ah needs an authentication algorithm") }
    if p.saProtocol == .esp, p.transform.encryption == .null, p.transform.authentication == nil {
      throw .invalid("esp that neither encrypts nor authenticates is refused (RFC 4303 3.2)")
    }
    if let selector = p.selector, selector.source.family != selector.destination.family {
      throw .invalid("the selector's source and destination differ in family")
    }
  }

  /// So far that no counter comes round by what is added to it, packets and margins.
  static func validate(sequence: UInt64) throws(DatabaseError) {
    guard sequence <= 1 << 63 else { throw .invalid("an SA cannot begin at sequence number \(sequence)") }
  }

  /// A key schedule; nil for protocols that have no keys.
  func makeSession(_ parameters: SAParameters, isInbound: Bool) throws(DatabaseError) -> CryptoSession? {
    guard let transform = Self.keyed(parameters) else { return nil }
    do {
      return try engine.makeSession(transform, direction: isInbound ? .open : .seal, workers: workers)
    } catch {
      switch error {
      case .unsupported: throw .unsupported(error.description)
      case .keyLength: throw .invalid(error.description)
      case .library(let message): throw .invalid("the crypto library refused the key: \(message)")
      }
    }
  }

  /// What an engine is asked for; nil for protocols that have no keys.
  static func keyed(_ parameters: SAParameters) -> CryptoTransform? {
    switch parameters.saProtocol {
    case .esp: parameters.transform
    case .ah:
      CryptoTransform(
        encryption: .null, authentication: parameters.transform.authentication,
        authenticationKey: parameters.transform.authenticationKey)
    case .ipcomp, .ipip: nil
    }
  }

  /// The workers' record, not published; `entry` has its session and slot.
  func make(for entry: SAEntry) -> UnsafeMutablePointer<gw_sa> {
    let parameters = entry.parameters
    let sa = slab.allocate()
    sa.pointee.serial = entry.serial
    sa.pointee.slot = entry.slot
    sa.pointee.control = UInt64(UInt(bitPattern: Unmanaged.passUnretained(entry).toOpaque()))
    sa.pointee.spi = Self.wireSPI(parameters)
    sa.pointee.sa_protocol = parameters.saProtocol.rawValue
    (sa.pointee.source_high, sa.pointee.source_low) = parameters.source.halves
    (sa.pointee.destination_high, sa.pointee.destination_low) = parameters.destination.halves
    sa.pointee.request_id = parameters.requestID
    sa.pointee.interface_id = parameters.interfaceID
    sa.pointee.identities = entry.identityHash
    if let session = entry.session {
      Self.setSession(sa, session)
    } else if parameters.saProtocol == .esp || parameters.saProtocol == .ah {
      sa.pointee.status = GW_SA_UNKEYED.rawValue
    }
    Self.setTransform(sa, parameters)
    OuterHeader.prepare(
      sa, source: parameters.source, destination: parameters.destination, ipProtocol: Self.payloadProtocol(parameters),
      encapsulation: parameters.encapsulation, dscp: parameters.dscp)
    sa.pointee.overhead = UInt16(Self.overhead(sa, parameters))
    setLimits(sa, parameters)
    sa.pointee.flags = Self.flags(parameters, isInbound: entry.isInbound)
    if !entry.isInbound { Self.setSequenceLimit(sa, sa.sequenceEnd) }
    if Self.takesFastPath(sa) { sa.pointee.flags |= GW_SA_FAST_PATH.rawValue }
    if let selector = parameters.selector { sa.pointee.selector = Self.makeSelector(selector) }
    setTFC(sa, parameters)
    if let encapsulation = parameters.encapsulation, entry.isInbound {
      // Where the peer is expected: only packets from elsewhere are reported.
      sa.pointee.peer = sa.pointee.source_low << 32 | UInt64(encapsulation.sourcePort)
    }
    return sa
  }

  /// So far before 2^64 that no bursts in flight bring the counter round.
  static var extendedSequenceEnd: UInt64 { .max - 1 << 32 }

  /// Of an SA whose packets are numbered, as `gw_sa.sequenceEnd`.
  static func sequenceEnd(_ parameters: SAParameters) -> UInt64 {
    parameters.extendedSequenceNumbers ? extendedSequenceEnd : UInt64(UInt32.max)
  }

  /// So far before the limit numbers are taken with care for it: more than all workers have in hand.
  private static var sequenceReserve: UInt64 { 2_000_000 }

  /// The first number that an outbound SA may not give out. Workers may use it; forward only, then.
  static func setSequenceLimit(_ sa: UnsafeMutablePointer<gw_sa>, _ limit: UInt64) {
    sa.sequenceLimitAtomic.pointee.store(limit, ordering: .relaxed)
    sa.carefulFromAtomic.pointee.store(limit > sequenceReserve ? limit - sequenceReserve : 0, ordering: .releasing)
  }

  static func setSession(_ sa: UnsafeMutablePointer<gw_sa>, _ session: CryptoSession) {
    sa.pointee.session = session.base
    sa.pointee.burst = session.burst
    sa.pointee.session_stride = UInt32(session.stride)
  }

  /// Gives an SA its sequence numbers and an inbound one its window, as the parameters say.
  func initialiseState(_ sa: UnsafeMutablePointer<gw_sa>, _ parameters: SAParameters, isInbound: Bool) {
    sa.pointee.sequence = parameters.sequence
    guard isInbound else { return }
    let window = ReplayWindow.window(for: parameters.replayWindow)
    sa.pointee.replay_window = window
    if window > 0 {
      let words = ReplayWindow.ringWords(window: window)
      let ring = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
      ring.initialize(repeating: 0, count: words)
      sa.pointee.replay = ring
      sa.pointee.replay_mask = UInt32(words - 1)
    }
    ReplayWindow.initialise(sa, highest: parameters.replayHighest)
  }

  /// Returns the memory of an SA that no worker can hold any more. The window goes with it unless another SA has it.
  func deallocate(_ sa: UnsafeMutablePointer<gw_sa>, keepingWindow: Bool = false) {
    sa.pointee.selector?.deallocate()
    if !keepingWindow { sa.pointee.replay?.deallocate() }
    slab.deallocate(sa)
  }

  /// What inbound packets are looked up by: the SPI or CPI; IPIP has none and goes by its source.
  static func wireSPI(_ parameters: SAParameters) -> UInt32 {
    guard parameters.saProtocol == .ipip else { return parameters.spi.bigEndian }
    let (high, low) = parameters.source.halves
    return SADReader.ipipSPI(sourceHigh: high, sourceLow: low)
  }

  private static func payloadProtocol(_ parameters: SAParameters) -> UInt8 {
    guard parameters.saProtocol == .ipip else { return parameters.saProtocol.rawValue }
    let inner = parameters.selector?.family ?? parameters.destination.family
    return inner == .v4 ? 4 : 41
  }

  private static func flags(_ parameters: SAParameters, isInbound: Bool) -> UInt32 {
    var flags: UInt32 = 0
    func set(_ flag: gw_sa_flag, _ condition: Bool) { if condition { flags |= flag.rawValue } }
    set(GW_SA_TUNNEL, parameters.mode == .tunnel)
    set(GW_SA_ESN, parameters.extendedSequenceNumbers)
    set(GW_SA_UDP_ENCAP, parameters.encapsulation != nil)
    set(GW_SA_OUTER_V6, parameters.destination.family == .v6)
    set(GW_SA_INBOUND, isInbound)
    set(
      GW_SA_LIMITED,
      [parameters.soft, parameters.hard].contains { $0.bytes != 0 || $0.packets != 0 })
    set(GW_SA_DF_SET, parameters.df == .set)
    set(GW_SA_DF_COPY, parameters.df == .copy)
    set(GW_SA_NO_ECN, !parameters.ecn)
    set(GW_SA_DSCP_SET, parameters.dscp != nil)
    set(GW_SA_TFC, parameters.tfcPadding != 0 && parameters.saProtocol == .esp)
    set(GW_SA_NO_REPLAY, isInbound && parameters.replayWindow == 0)
    return flags
  }

  /// What `GW_SA_FAST_PATH` says.
  private static func takesFastPath(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    sa.pointee.sa_protocol == ESP.ipProtocol && sa.pointee.crypto == UInt8(GW_CRYPTO_AEAD.rawValue)
      && sa.pointee.iv_length == 8 && sa.pointee.icv_length == 16 && sa.pointee.alignment <= 8
      && sa.pointee.flags & GW_SA_UDP_ENCAP.rawValue == 0
  }

  private func setLimits(_ sa: UnsafeMutablePointer<gw_sa>, _ parameters: SAParameters) {
    sa.pointee.soft_bytes = parameters.soft.bytes
    sa.pointee.hard_bytes = parameters.hard.bytes
    sa.pointee.soft_packets = parameters.soft.packets
    sa.pointee.hard_packets = parameters.hard.packets
  }

  private func setTFC(_ sa: UnsafeMutablePointer<gw_sa>, _ parameters: SAParameters) {
    guard parameters.tfcPadding != 0, parameters.saProtocol == .esp else { return }
    let most = Self.tfcPacketLimit - Int(sa.pointee.overhead)
    sa.pointee.tfc_length = min(parameters.tfcPadding, UInt32(most))
  }

  private static func setTransform(_ sa: UnsafeMutablePointer<gw_sa>, _ parameters: SAParameters) {
    let transform = parameters.transform
    let isV6 = parameters.destination.family == .v6
    switch parameters.saProtocol {
    case .esp:
      let encryption = transform.encryption
      sa.pointee.crypto = UInt8(crypto(encryption).rawValue)
      sa.pointee.iv_length = UInt8(encryption.ivLength)
      sa.pointee.icv_length = UInt8(transform.icvLength)
      sa.pointee.alignment = UInt8(max(4, encryption.alignment))
      sa.pointee.salt = salt(transform.encryptionKey, length: encryption.saltLength)
    case .ah:
      let isGMAC = transform.authentication == .aesGMAC
      sa.pointee.crypto = UInt8((isGMAC ? GW_CRYPTO_GMAC : GW_CRYPTO_CBC).rawValue)
      sa.pointee.iv_length = isGMAC ? 8 : 0
      sa.pointee.icv_length = UInt8(transform.authentication?.icvLength ?? 0)
      sa.pointee.alignment = isV6 || parameters.alignsAHTo64Bits ? 8 : 4
      sa.pointee.salt = isGMAC ? salt(transform.authenticationKey, length: 4) : 0
    case .ipcomp, .ipip:
      sa.pointee.alignment = 1
    }
  }

  private static func crypto(_ encryption: EncryptionAlgorithm) -> gw_sa_crypto {
    switch encryption {
    case .null, .aesCBC, .tripleDESCBC, .camelliaCBC: GW_CRYPTO_CBC
    case .aesCTR: GW_CRYPTO_CTR
    case .aesGCM16, .aesGCM12, .aesGCM8, .chacha20Poly1305: GW_CRYPTO_AEAD
    case .aesCCM16, .aesCCM12, .aesCCM8: GW_CRYPTO_CCM
    case .aesGMAC: GW_CRYPTO_GMAC
    }
  }

  /// The last bytes of the key, as in memory.
  private static func salt(_ key: SecretBytes, length: Int) -> UInt32 {
    guard length > 0, key.count >= length else { return 0 }
    var salt: UInt32 = 0
    withUnsafeMutableBytes(of: &salt) { $0.copyBytes(from: key.bytes[(key.count - length)...]) }
    return salt
  }

  /// The most that a packet grows by.
  private static func overhead(_ sa: UnsafeMutablePointer<gw_sa>, _ parameters: SAParameters) -> Int {
    let ip = parameters.destination.family == .v4 ? 20 : 40
    let outer = (parameters.mode == .tunnel ? ip : 0) + (parameters.encapsulation == nil ? 0 : 8)
    let (iv, icv) = (Int(sa.pointee.iv_length), Int(sa.pointee.icv_length))
    let alignment = Int(sa.pointee.alignment)
    switch parameters.saProtocol {
    case .esp: return outer + ESP.headerLength + iv + icv + 2 + alignment - 1
    case .ah: return outer + (12 + iv + icv + alignment - 1) / alignment * alignment
    case .ipcomp: return outer + 4
    case .ipip: return outer
    }
  }

  private static func makeSelector(_ selector: Selector) -> UnsafeMutablePointer<gw_policy> {
    let policy = UnsafeMutablePointer<gw_policy>.allocate(capacity: 1)
    policy.initialize(to: gw_policy())
    policy.pointee.fill(selector)
    return policy
  }
}
