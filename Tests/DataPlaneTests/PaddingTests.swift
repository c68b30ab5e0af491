import COpenSSL
import Engines
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// ESP padding that is not 1, 2, 3 …: refused, unless the gateway is told otherwise.
  @Suite(.serialized) struct PaddingTests {
    private static let key = [UInt8](repeating: 0x28, count: 20)

    /// ESP with the null cipher, whose trailer is the test's, and an ICV that is right.
    private static func sealed(_ body: [UInt8], sequence: UInt32, mode: SAMode) -> [UInt8] {
      var esp = [UInt8](repeating: 0, count: 8) + body
      esp.withUnsafeMutableBytes { ESPHeader.write($0.baseAddress!, spi: 0x1000, sequence: sequence) }
      var icv = [UInt8](repeating: 0, count: 20)
      var length = 0
      _ = EVP_Q_mac(nil, "HMAC", nil, "SHA1", nil, key, key.count, esp, esp.count, &icv, icv.count, &length)
      return Packets.ip(
        from: Pair.wan4.0, to: Pair.wan4.1, number: IPProtocol.esp, payload: esp + icv.prefix(12))
    }

    @Test(arguments: [SAMode.tunnel, .transport]) func strictOrAny(mode: SAMode) throws {
      let pair = try Pair()
      let transform = CryptoTransform(
        encryption: .null, encryptionKey: SecretBytes([]), authentication: .hmacSHA1,
        authenticationKey: SecretBytes(Self.key))
      let sa = Pair.sa(.esp, mode, .v4, transform: transform)
      try pair.add([sa], for: mode == .tunnel ? Pair.subnets(.v4) : Pair.endpoints(.v4))
      let ends = mode == .tunnel ? Pair.host4 : Pair.wan4
      let clear = Packets.udp(from: ends.0, to: ends.1, payload: [UInt8](repeating: 3, count: 36))
      let text = mode == .tunnel ? clear : Array(clear.dropFirst(20))
      let next = mode == .tunnel ? IPProtocol.ipip : IPProtocol.udp
      var sequence: UInt32 = 0
      func receive(_ padding: [UInt8], says length: UInt8? = nil) -> TestGateway.Outcome {
        sequence += 1
        let body = text + padding + [length ?? UInt8(padding.count), next]
        return pair.b.receive([Self.sealed(body, sequence: sequence, mode: mode)])
      }
      let odd: [[UInt8]] = [[0, 0], [2, 1], [9, 9, 9, 9, 9, 9], [UInt8](repeating: 0, count: 30)]
      for accepts in [false, true, false] {
        pair.b.worker.pointee.shared.pointee.acceptsAnyPadding.store(accepts, ordering: .relaxed)
        for padding in odd + [[1, 2], Array(1...30)] {
          let outcome = receive(padding)
          let isRight = padding == (0..<padding.count).map { UInt8($0 + 1) }
          let passes = accepts || isRight
          #expect(outcome.drops == (passes ? [:] : [.espPadding: 1]), "\(padding), any: \(accepts)")
          #expect(outcome.sent.count + outcome.host.count == (passes ? 1 : 0), "\(padding), any: \(accepts)")
        }
        // Longer than the packet it never is.
        #expect(receive([0, 0], says: 250).drops == [.espPadding: 1])
        #expect(receive([0, 0], says: UInt8(text.count + 3)).drops == [.espPadding: 1])
      }
    }
  }
}
