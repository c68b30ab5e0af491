import Engines
import IPsec
import Wire

extension SAIdentifier: Codable {
  enum CodingKeys: String, CodingKey {
    case spi, destination
    case saProtocol = "protocol"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      spi: try fields.decode(UInt32.self, forKey: .spi),
      destination: try fields.decode(IPAddress.self, forKey: .destination),
      saProtocol: try fields.value(.saProtocol, default: .esp))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(spi, forKey: .spi)
    try fields.encode(destination, forKey: .destination)
    try fields.encode(saProtocol, forKey: .saProtocol)
  }
}

/// Keys are written only under `CodingUserInfoKey.revealKeys`, and must be there on reading unless `.acceptHiddenKeys`.
/// On reading, only `spi`, `source` and `destination` are obligatory; the rest has the defaults of `SAParameters.init`.
extension SAParameters: Codable {
  enum CodingKeys: String, CodingKey {
    case spi, source, destination, mode, transform, compression, soft, hard, selector, direction, mark, df, ecn, dscp
    case owner
    case saProtocol = "protocol"
    case encapsulation = "udp_encapsulation"
    case replayWindow = "replay_window_packets"
    case extendedSequenceNumbers = "extended_sequence_numbers"
    case sequence = "initial_sequence"
    case replayHighest = "initial_replay_highest"
    case requestID = "request_id"
    case sourceIdentity = "source_identity"
    case destinationIdentity = "destination_identity"
    case interfaceID = "interface_id"
    case tfcPadding = "tfc_padding_bytes"
    case alignsAHTo64Bits = "ah_aligned_to_64_bits"
    case keySequence = "key_sequence"
    case bundledWith = "bundled_with"
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      spi: try fields.decode(UInt32.self, forKey: .spi), source: try fields.decode(IPAddress.self, forKey: .source),
      destination: try fields.decode(IPAddress.self, forKey: .destination),
      saProtocol: try fields.value(.saProtocol, default: .esp), mode: try fields.value(.mode, default: .tunnel),
      transform: try fields.value(.transform, default: CryptoTransform(encryption: .null)),
      replayWindow: try fields.value(.replayWindow, default: 64),
      extendedSequenceNumbers: try fields.value(.extendedSequenceNumbers, default: false),
      owner: try fields.value(.owner, default: .configuration))
    compression = try fields.decodeIfPresent(CompressionAlgorithm.self, forKey: .compression)
    encapsulation = try fields.decodeIfPresent(UDPEncapsulation.self, forKey: .encapsulation)
    sequence = try fields.value(.sequence, default: 0)
    replayHighest = try fields.value(.replayHighest, default: 0)
    soft = try fields.value(.soft, default: .unlimited)
    hard = try fields.value(.hard, default: .unlimited)
    requestID = try fields.value(.requestID, default: 0)
    selector = try fields.decodeIfPresent(Selector.self, forKey: .selector)
    direction = try fields.decodeIfPresent(PolicyDirection.self, forKey: .direction)
    sourceIdentity = try fields.decodeIfPresent(Identity.self, forKey: .sourceIdentity)
    destinationIdentity = try fields.decodeIfPresent(Identity.self, forKey: .destinationIdentity)
    mark = try fields.decodeIfPresent(Mark.self, forKey: .mark)
    interfaceID = try fields.value(.interfaceID, default: 0)
    df = try fields.value(.df, default: .copy)
    ecn = try fields.value(.ecn, default: true)
    dscp = try fields.decodeIfPresent(UInt8.self, forKey: .dscp)
    tfcPadding = try fields.value(.tfcPadding, default: 0)
    alignsAHTo64Bits = try fields.value(.alignsAHTo64Bits, default: false)
    keySequence = try fields.value(.keySequence, default: 0)
    bundledWith = try fields.decodeIfPresent(SAIdentifier.self, forKey: .bundledWith)
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(spi, forKey: .spi)
    try fields.encode(source, forKey: .source)
    try fields.encode(destination, forKey: .destination)
    try fields.encode(saProtocol, forKey: .saProtocol)
    try fields.encode(mode, forKey: .mode)
    try fields.encode(transform, forKey: .transform)
    try fields.encodeIfPresent(compression, forKey: .compression)
    try fields.encodeIfPresent(encapsulation, forKey: .encapsulation)
    try fields.encode(replayWindow, forKey: .replayWindow)
    try fields.encode(extendedSequenceNumbers, forKey: .extendedSequenceNumbers)
    try fields.encode(sequence, forKey: .sequence)
    try fields.encode(replayHighest, forKey: .replayHighest)
    try fields.encode(soft, forKey: .soft)
    try fields.encode(hard, forKey: .hard)
    try fields.encode(requestID, forKey: .requestID)
    try fields.encodeIfPresent(selector, forKey: .selector)
    try fields.encodeIfPresent(direction, forKey: .direction)
    try fields.encodeIfPresent(sourceIdentity, forKey: .sourceIdentity)
    try fields.encodeIfPresent(destinationIdentity, forKey: .destinationIdentity)
    try fields.encodeIfPresent(mark, forKey: .mark)
    try fields.encode(interfaceID, forKey: .interfaceID)
    try fields.encode(df, forKey: .df)
    try fields.encode(ecn, forKey: .ecn)
    try fields.encodeIfPresent(dscp, forKey: .dscp)
    try fields.encode(tfcPadding, forKey: .tfcPadding)
    try fields.encode(alignsAHTo64Bits, forKey: .alignsAHTo64Bits)
    try fields.encode(owner, forKey: .owner)
    try fields.encode(keySequence, forKey: .keySequence)
    try fields.encodeIfPresent(bundledWith, forKey: .bundledWith)
  }
}

extension SACounters: Codable {
  enum CodingKeys: String, CodingKey {
    case inputPackets = "input_packets"
    case outputPackets = "output_packets"
    case inputBytes = "input_bytes"
    case outputBytes = "output_bytes"
    case decompressedBytes = "decompressed_bytes"
    case uncompressedBytes = "uncompressed_bytes"
    case inputDrops = "input_drop_packets"
    case outputDrops = "output_drop_packets"
    case replayed = "replayed_packets"
    case integrityFailures = "integrity_failure_packets"
  }
  /// Written and read by one table, so that no counter is forgotten on one side.
  private static var table: [(CodingKeys, WritableKeyPath<SACounters, UInt64>)] {
    [
      (.inputPackets, \.inputPackets), (.outputPackets, \.outputPackets), (.inputBytes, \.inputBytes),
      (.outputBytes, \.outputBytes), (.decompressedBytes, \.decompressedBytes),
      (.uncompressedBytes, \.uncompressedBytes), (.inputDrops, \.inputDrops), (.outputDrops, \.outputDrops),
      (.replayed, \.replayed), (.integrityFailures, \.integrityFailures),
    ]
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init()
    for (key, path) in Self.table { self[keyPath: path] = try fields.value(key, default: 0) }
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    for (key, path) in Self.table { try fields.encode(self[keyPath: path], forKey: key) }
  }
}

/// The fields of `SAParameters` and beside them what has become of the SA.
extension SARecord: Codable {
  enum CodingKeys: String, CodingKey {
    case state, usage, counters, sequence
    case replayBitmap = "replay_bitmap"
    case mtu = "mtu_bytes"
  }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(parameters: try SAParameters(from: decoder), state: try fields.decode(SAState.self, forKey: .state))
    usage = try fields.value(.usage, default: Usage())
    counters = try fields.value(.counters, default: SACounters())
    sequence = try fields.value(.sequence, default: 0)
    replayBitmap = try fields.value(.replayBitmap, default: 0)
    mtu = try fields.value(.mtu, default: 0)
  }
  public func encode(to encoder: any Encoder) throws {
    try parameters.encode(to: encoder)
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(state, forKey: .state)
    try fields.encode(usage, forKey: .usage)
    try fields.encode(counters, forKey: .counters)
    try fields.encode(sequence, forKey: .sequence)
    try fields.encode(replayBitmap, forKey: .replayBitmap)
    try fields.encode(mtu, forKey: .mtu)
  }
}
