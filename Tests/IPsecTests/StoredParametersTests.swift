import Engines
import Testing
import Wire

@testable import IPsec

/// The database gives back what it was given, whichever parameter is not as usual.
@Suite struct StoredParametersTests {
  private static func parameters() -> SAParameters {
    SAParameters(
      spi: 0x1000, source: TestDatabase.here, destination: TestDatabase.there,
      transform: CryptoTransform(
        encryption: .aesCBC, encryptionKey: SecretBytes(1...16), authentication: .hmacSHA256,
        authenticationKey: SecretBytes(1...32)))
  }

  /// One for each parameter.
  private static let changes: [@Sendable (inout SAParameters) -> Void] = [
    { $0.spi = 7 }, { $0.source = IPAddress("10.0.0.1")! }, { $0.destination = IPAddress("2001:db8::1")! },
    { $0.saProtocol = .ah },
    { $0.mode = .transport }, { $0.transform.encryption = .aesCTR }, { $0.compression = .deflate },
    { $0.encapsulation = UDPEncapsulation(sourcePort: 9) }, { $0.replayWindow = 128 },
    { $0.extendedSequenceNumbers = true }, { $0.sequence = 5 }, { $0.replayHighest = 6 },
    { $0.soft = Lifetime(bytes: 1, addTime: 2) }, { $0.hard = Lifetime(addTime: 1 << 33) }, { $0.requestID = 3 },
    { $0.selector = Selector(source: IPPrefix("10.0.0.0/8")!, destination: IPPrefix("11.0.0.0/8")!) },
    { $0.direction = .out }, { $0.sourceIdentity = Identity(kind: .fqdn, text: "a") },
    { $0.destinationIdentity = Identity(kind: .fqdn, text: "b") }, { $0.mark = Mark(value: 1, mask: 1) },
    { $0.interfaceID = 4 }, { $0.df = .set }, { $0.ecn = false }, { $0.dscp = 1 }, { $0.alignsAHTo64Bits = true },
    { $0.tfcPadding = 8 }, { $0.owner = .xfrm(2) }, { $0.keySequence = 9 },
    { $0.bundledWith = SAIdentifier(spi: 1, destination: IPAddress("10.0.0.2")!, saProtocol: .ah) },
  ]

  private static func text(_ parameters: SAParameters) -> String {
    var text = ""
    dump(parameters, to: &text)
    return text
  }

  @Test func everyParameterComesBack() {
    let usual = Self.parameters()
    // Who adds a parameter adds it here, and to `StoredParameters`.
    #expect(Mirror(reflecting: usual).children.count == Self.changes.count)
    #expect(Self.text(StoredParameters(usual).parameters) == Self.text(usual))
    #expect(StoredParameters(usual).unusual == nil)
    for (number, change) in Self.changes.enumerated() {
      var changed = usual
      change(&changed)
      #expect(Self.text(changed) != Self.text(usual), "change \(number)")
      #expect(Self.text(StoredParameters(changed).parameters) == Self.text(changed), "change \(number)")
    }
  }
}
