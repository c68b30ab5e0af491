import CDPDK
import COpenSSL
import DPDK
import Engines
import IPsec
import Wire

@testable import DataPlane

/// The inbound path, a burst at a time: frames as they are, and bodies of ESP, IPComp and IPIP that the fuzzer chose behind
/// an ICV that is right. No trap, no buffer lost.
///
/// Input: blocks, each kind(1) bytes.
enum InboundTarget: FuzzTarget {
  /// What the bytes of a block become.
  enum Kind: UInt8, CaseIterable {
    case packet, espTunnel4, espTunnel6, espTransport, espInUDP, ipcomp, ipip
  }

  static let spis: [Kind: UInt32] = [
    .espTunnel4: 0x1000, .espTunnel6: 0x1001, .espTransport: 0x1002, .espInUDP: 0x1003,
  ]
  static let cpi: UInt16 = 0x777
  private static let key = [UInt8](repeating: 0x5a, count: 20)
  nonisolated(unsafe) static let gateway: TestGateway = {
    do {
      let gateway = try Pair().b
      for sa in try associations() { try gateway.security.add(sa, origin: 0) }
      // What comes out must be allowed to go on, or nothing after the policy is reached.
      for family in [AddressFamily.v4, .v6] {
        var policy = PolicyParameters(
          direction: .in, selector: Pair.subnets(family), type: .use, templates: [template(family)])
        policy.priority = 2000
        _ = try gateway.security.add(policy, replacing: false, origin: 0)
      }
      return gateway
    } catch {
      fatalError("\(error)")
    }
  }()

  private static func template(_ family: AddressFamily) -> SATemplate {
    let (source, destination) = Pair.ends(family)
    return SATemplate(source: source, destination: destination)
  }

  static func associations() throws -> [SAParameters] {
    let transform = CryptoTransform(
      encryption: .null, encryptionKey: SecretBytes([]), authentication: .hmacSHA1, authenticationKey: SecretBytes(key))
    var sas: [SAParameters] = []
    for (kind, spi) in spis {
      let family = kind == .espTunnel6 ? AddressFamily.v6 : .v4
      var sa = Pair.sa(
        .esp, kind == .espTransport ? .transport : .tunnel, family, spi: spi, transform: transform)
      if kind == .espInUDP { sa.encapsulation = UDPEncapsulation(sourcePort: 4500, destinationPort: 4500) }
      sa.replayWindow = 0
      sas.append(sa)
    }
    sas.append(Pair.sa(.ipcomp, .tunnel, .v4, spi: UInt32(cpi)))
    sas.append(Pair.sa(.ah, .transport, .v4, spi: 0x1004, transform: transform))
    sas.append(Pair.sa(.ah, .tunnel, .v6, spi: 0x1005, transform: transform))
    return sas
  }

  static func fuzz(_ input: FuzzInput) {
    var input = input
    let packets = input.blocks(atMost: 16).compactMap(packet).filter { !$0.isEmpty && $0.count <= 8900 }
    guard !packets.isEmpty else { return }
    _ = gateway.receive(packets)
    checkBuffers([gateway])
  }

  /// Once what waits for neighbours and for fragments is given back, no buffer is in use: a packet was sent, or was freed.
  static func checkBuffers(_ gateways: [TestGateway]) {
    for gateway in gateways {
      gateway.worker.pointee.fragments.collect(gateway.worker, now: .max)
      gateway.worker.releaseFreed()
    }
    let host = try? TestEAL.shared.get().host
    var waiting: Mbuf?
    while let waits = host?.waiting, waits.dequeue(&waiting, 1) == 1 { cdpdk_free(waiting) }
    let used = TestGateway.buffersInUse
    require(used == 0, "\(used) buffers in use")
  }

  private static func packet(_ block: [UInt8]) -> [UInt8]? {
    guard let first = block.first, let kind = Kind(rawValue: first % UInt8(Kind.allCases.count)) else { return nil }
    let body = Array(block.dropFirst())
    let (four, six) = (Pair.wan4, Pair.wan6)
    switch kind {
    case .packet: return body
    case .espTunnel6:
      return Packets.ip(from: six.0, to: six.1, number: IPProtocol.esp, payload: sealed(body, kind))
    case .espTunnel4, .espTransport:
      return Packets.ip(from: four.0, to: four.1, number: IPProtocol.esp, payload: sealed(body, kind))
    case .espInUDP:
      return Packets.udp(from: four.0, to: four.1, payload: sealed(body, kind), ports: (4500, 4500))
    case .ipcomp:
      guard let next = body.first else { return nil }
      let header = [next, 0, UInt8(cpi >> 8), UInt8(cpi & 255)]
      return Packets.ip(from: four.0, to: four.1, number: IPProtocol.ipcomp, payload: header + body.dropFirst())
    case .ipip:
      let number = body.first.map { $0 >> 4 == 6 } ?? false ? IPProtocol.ipv6 : IPProtocol.ipip
      return Packets.ip(from: four.0, to: four.1, number: number, payload: body)
    }
  }

  /// ESP with the null cipher: the body with its trailer is the fuzzer's, the ICV (RFC 2404) is right.
  static func sealed(_ body: [UInt8], _ kind: Kind) -> [UInt8] {
    var packet = [UInt8](repeating: 0, count: 8) + body
    packet.withUnsafeMutableBytes { ESPHeader.write($0.baseAddress!, spi: spis[kind] ?? 0, sequence: 1) }
    var icv = [UInt8](repeating: 0, count: 20)
    var length = 0
    let made = EVP_Q_mac(
      nil, "HMAC", nil, "SHA1", nil, key, key.count, packet, packet.count, &icv, icv.count, &length)
    require(made != nil && length == 20, "HMAC")
    return packet + icv.prefix(12)
  }
}

/// The outbound path: whatever a host inside sends, through every kind of tunnel. What is sealed must open on the other side.
enum OutboundTarget: FuzzTarget {
  nonisolated(unsafe) static let pairs: [Pair] = {
    do {
      return try [
        pair([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16), esn: true)]),
        pair([Pair.sa(.esp, .tunnel, .v6, transform: .esp(.aesCBC, .hmacSHA256))]),
        pair([Pair.sa(.ipcomp, .tunnel, .v4, spi: 0x777), Pair.sa(.esp, .transport, .v4, transform: .esp(.aesGCM16))]),
        pair([Pair.sa(.ah, .tunnel, .v6, transform: .ah(.hmacSHA256))]),
      ]
    } catch {
      fatalError("\(error)")
    }
  }()

  private static func pair(_ layers: [SAParameters]) throws -> Pair {
    let pair = try Pair()
    try pair.add(layers, for: Pair.subnets(.v4))
    for (gateway, direction) in [(pair.a, PolicyDirection.out), (pair.b, .in)] {
      let templates = layers.map { Pair.template($0, direction) }
      var policy = PolicyParameters(direction: direction, selector: Pair.subnets(.v6), templates: templates)
      policy.priority = 1000
      _ = try gateway.security.add(policy, replacing: false, origin: 0)
    }
    return pair
  }

  static func fuzz(_ input: FuzzInput) {
    var input = input
    let pair = pairs[Int(input.byte()) % pairs.count]
    let packets = input.blocks(atMost: 16).filter { !$0.isEmpty && $0.count <= 8000 }
    guard !packets.isEmpty else { return }
    let sealed = pair.a.receive(packets)
    let tunnelled = sealed.sent.filter { $0.first != nil }
    defer { InboundTarget.checkBuffers([pair.a, pair.b]) }
    guard !tunnelled.isEmpty, tunnelled.count <= 32 else { return }
    let opened = pair.b.receive(tunnelled)
    require(opened.drops[.integrity] == nil, "what one gateway sealed the other cannot open")
  }
}
