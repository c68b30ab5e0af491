import Engines
import Glibc
import Testing
import Wire

@testable import IPsec
@testable import KeyManagement

/// OpenBSD's dialect: its numbers, flows and bundles.
struct PFKeyOpenBSDTests {
  private let a: IPAddress = "192.0.2.1"
  private let b: IPAddress = "192.0.2.2"

  private func errno(_ replies: [[UInt8]]) -> Int32? { replies.first.map { Int32($0[2]) } }

  private func probe() -> PFKeyProbe {
    let probe = PFKeyProbe()
    probe.greet(.openBSD)
    return probe
  }

  private func append(
    _ type: PFKeyExtensionType, _ address: IPAddress, port: UInt16 = 0, to builder: inout ByteBuilder
  ) {
    builder.pfkeyExtension(type) { PFKeyAddress(address, port: port).encode(into: &$0, dialect: .openBSD) }
  }

  private func sa(
    _ spi: UInt32, encryption: UInt8 = 12, authentication: UInt8 = 5, flags: UInt32 = 4, port: UInt16? = nil,
    type: PFKeyMessageType = .add, saProtocol: SAProtocol = .esp
  ) -> [UInt8] {
    PFKeyProbe.message(type, saProtocol, dialect: .openBSD) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        (sa.spi, sa.encryption, sa.authentication, sa.flags) = (spi, encryption, authentication, flags)
        (sa.replay, sa.state) = (64, 1)
        sa.encode(into: &builder)
      }
      append(.source, a, to: &builder)
      append(.destination, b, to: &builder)
      if authentication == 5 { Iked.appendKey(.authenticationKey, Array(0..<32), to: &builder) }
      if saProtocol == .esp {
        Iked.appendKey(.encryptionKey, Array(0..<(encryption == 12 ? 16 : 36)), to: &builder)
      }
      if let port { builder.pfkeyExtension(.udpEncapsulation) { $0.appendBig(port) } }
    }
  }

  private func flow(
    _ type: PFKeyMessageType, kind: UInt8 = 3, direction: UInt8 = 2, flags: UInt8 = 0,
    mask: IPAddress = "255.255.255.0", port: UInt16 = 0
  ) -> [UInt8] {
    PFKeyProbe.message(type, .esp, dialect: .openBSD) { builder in
      if type == .addFlow {
        append(.destination, b, to: &builder)
        builder.appendIdentity(.identitySource, Identity(kind: .fqdn, text: "me.example"))
        builder.appendIdentity(.identityDestination, Identity(kind: .fqdn, text: "you.example"))
      }
      append(.sourceMask, mask, to: &builder)
      append(.destinationMask, "255.255.0.0", port: port == 0 ? 0 : .max, to: &builder)
      builder.pfkeyExtension(.flowProtocol) { $0.append(bytes: [port == 0 ? 0 : 6, 0, 0, 0]) }
      builder.pfkeyExtension(.flowType) { $0.append(bytes: [kind, direction, flags, 0]) }
      append(.sourceFlow, "10.1.1.0", to: &builder)
      append(.destinationFlow, "10.2.0.0", port: port, to: &builder)
    }
  }

  @Test func helloSettlesTheDialect() {
    let probe = PFKeyProbe()
    let hello: [UInt8] = [2, 0, 0, 2, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0]
    #expect(probe.send(hello) == [hello])
    #expect(probe.session.dialect == .openBSD)
    #expect(errno(probe.send([2, 0, 0, 1, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0])) == EINVAL)
    #expect(errno(probe.send([2, 0, 0, 7, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0])) == EINVAL)
    #expect(probe.session.dialect == .openBSD)
  }

  /// Without a hello the first socket address tells.
  @Test func addressesSettleTheDialect() {
    let probe = PFKeyProbe()
    #expect(errno(probe.send(flow(.addFlow))) == 0)
    #expect(probe.session.dialect == .openBSD && probe.store.entries.count == 1)
    let other = PFKeyProbe()
    _ = other.send(Iked.getSPI(from: a, to: b))
    #expect(other.session.dialect == .linux)
  }

  @Test func register() {
    let reply = probe().request(.register, .esp, dialect: .openBSD).first
    #expect(
      extensionTypes(reply, .openBSD) == [.supportedAuthentication, .supportedEncryption, .supportedCompression])
    #expect(reply?[3] == 2)
  }

  @Test func flows() throws {
    let probe = probe()
    let reply = probe.send(flow(.addFlow, port: 443))
    #expect(errno(reply) == 0)
    #expect(
      extensionTypes(reply.first, .openBSD) == [
        .destination, .identitySource, .identityDestination, .sourceMask, .destinationMask, .flowProtocol, .flowType,
        .sourceFlow, .destinationFlow,
      ])
    let policy = try #require(probe.store.entries.first).parameters
    #expect(policy.selector.source == "10.1.1.0/24" && policy.selector.destination == "10.2.0.0/16")
    #expect(policy.selector.ipProtocol == 6 && policy.selector.destinationPorts == 443...443)
    #expect(policy.type == .require && policy.direction == .out && policy.peer == b && policy.priority == nil)
    #expect(policy.sourceIdentity == Identity(kind: .fqdn, text: "me.example"))
    #expect(policy.templates == [SATemplate(source: "0.0.0.0", destination: b)])
    // The same flow again changes it.
    #expect(errno(probe.send(flow(.addFlow, kind: 6, port: 443))) == 0)
    #expect(probe.store.entries.count == 1 && probe.store.entries.first?.parameters.type == .dontacq)
    let dumped = probe.request(.policyDump, nil, dialect: .openBSD)
    #expect(dumped.count == 1 && extensionTypes(dumped.first, .openBSD).contains(.flowType))
    #expect(errno(probe.send(flow(.deleteFlow, port: 443))) == 0 && probe.store.entries.isEmpty)
    #expect(errno(probe.send(flow(.deleteFlow, port: 443))) == ESRCH)
  }

  @Test func flowsRefused() {
    let probe = probe()
    #expect(errno(probe.send(flow(.addFlow, kind: 0))) == EINVAL)
    #expect(errno(probe.send(flow(.addFlow, kind: 7))) == EINVAL)
    #expect(errno(probe.send(flow(.addFlow, direction: 3))) == EINVAL)
    #expect(errno(probe.send(flow(.addFlow, mask: "255.0.255.0"))) == EINVAL)
    #expect(probe.store.entries.isEmpty)
  }

  /// A flow of ipsec.conf stands against messages that do not call themselves static.
  @Test func staticFlows() throws {
    let probe = probe()
    let selector = Selector(source: "10.1.1.0/24", destination: "10.2.0.0/16")
    _ = try probe.store.add(
      PolicyParameters(direction: .out, selector: selector, type: .bypass), replacing: false, origin: 0)
    #expect(errno(probe.send(flow(.addFlow))) == 0)
    #expect(probe.store.entries.first?.parameters.type == .bypass)
    #expect(errno(probe.send(flow(.deleteFlow))) == 0 && probe.store.entries.count == 1)
    #expect(errno(probe.send(flow(.addFlow, flags: 1))) == 0)
    #expect(probe.store.entries.first?.parameters.type == .require)
  }

  @Test func securityAssociations() throws {
    let probe = probe()
    #expect(errno(probe.send(sa(0x1001, flags: 0x404, port: 4501))) == 0)
    let record = try #require(probe.store.records().first).parameters
    #expect(record.mode == .tunnel && record.extendedSequenceNumbers)
    #expect(record.encapsulation == UDPEncapsulation(sourcePort: 4500, destinationPort: 4501))
    #expect(record.transform.authentication == .hmacSHA256 && record.transform.encryption == .aesCBC)
    #expect(errno(probe.send(sa(0x1001))) == EEXIST)
    let get = PFKeyProbe.message(.get, .esp, dialect: .openBSD) { builder in
      builder.pfkeyExtension(.sa) { builder in
        var sa = PFKeySA()
        sa.spi = 0x1001
        sa.encode(into: &builder)
      }
      append(.destination, b, to: &builder)
    }
    let reply = probe.send(get).first
    #expect(
      extensionTypes(reply, .openBSD) == [
        .sa, .lifetimeCurrent, .source, .destination, .authenticationKey, .encryptionKey, .udpEncapsulation, .lastUse,
        .counter, .replay,
      ])
    let shown = try #require(extensionPayload(.sa, of: reply, .openBSD))
    #expect(shown[6...7] == [5, 12] && shown[8] == 0x04 && shown[9] == 0x06)
  }

  /// GCM and ChaCha20-Poly1305 name their integrity half too.
  @Test func combinedModes() throws {
    let probe = probe()
    #expect(errno(probe.send(sa(0x1001, encryption: 20, authentication: 11))) == 0)
    #expect(errno(probe.send(sa(0x1002, encryption: 22, authentication: 12))) == 0)
    let records = probe.store.records()
    #expect(records.map(\.parameters.transform.encryption) == [.aesGCM16, .chacha20Poly1305])
    for (record, number) in zip(records, [11, 12] as [UInt8]) {
      let algorithms = PFKeyAlgorithms(dialect: .openBSD, policy: KeyPolicy())
      #expect(algorithms.numbers(record.parameters).authentication == number)
    }
  }

  @Test func bundles() throws {
    let probe = probe()
    #expect(errno(probe.send(sa(0x1001))) == 0)
    #expect(errno(probe.send(sa(0x2001, encryption: 0, saProtocol: .ah))) == 0)
    func group(_ second: UInt32) -> [[UInt8]] {
      probe.request(.groupSPIs, .esp, dialect: .openBSD) { builder in
        for (type, spi) in [(PFKeyExtensionType.sa, UInt32(0x1001)), (.secondSA, second)] {
          builder.pfkeyExtension(type) { builder in
            var sa = PFKeySA()
            sa.spi = spi
            sa.encode(into: &builder)
          }
        }
        append(.destination, b, to: &builder)
        append(.secondDestination, b, to: &builder)
        builder.pfkeyExtension(.secondSAType) { $0.append(bytes: [1, 0, 0, 0]) }
      }
    }
    #expect(errno(group(0x2001)) == 0)
    #expect(probe.store.records().first?.parameters.bundledWith?.spi == 0x2001)
    #expect(errno(group(0x2002)) == ESRCH)
  }

  @Test func acquireIsAskedAbout() throws {
    let probe = probe()
    _ = probe.request(.register, .esp, dialect: .openBSD)
    _ = probe.send(flow(.addFlow))
    let policy = try #require(probe.store.policies().first)
    probe.store.emit(
      .acquire(
        AcquireRequest(
          sequence: 5, policy: policy, template: policy.parameters.templates[0], packet: policy.parameters.selector)))
    let acquire = try #require(probe.notices.last)
    #expect(extensionTypes(acquire, .openBSD) == [.destination, .identitySource, .identityDestination, .proposal])
    func ask(_ sequence: UInt32) -> [[UInt8]] {
      probe.request(.askPolicy, nil, dialect: .openBSD) { builder in
        builder.pfkeyExtension(.askedPolicy) { $0.append(sequence) }
      }
    }
    #expect(
      extensionTypes(ask(5).first, .openBSD)
        == [.sourceMask, .destinationMask, .flowType, .sourceFlow, .destinationFlow, .askedPolicy])
    #expect(errno(ask(6)) == ESRCH)
  }

  /// The parser of OpenBSD answers EINVAL to what Linux passes over.
  @Test func strictness() {
    let probe = probe()
    func with(_ change: (inout [UInt8]) -> Void) -> Int32? {
      var message = sa(0x1001)
      change(&message)
      return errno(probe.send(message))
    }
    #expect(with { $0[2] = 1 } == EINVAL)
    #expect(with { $0[6] = 1 } == EINVAL)
    #expect(with { $0[4] += 1 } == EINVAL)
    #expect(with { $0[16 + 8] = 65 } == EINVAL)
    #expect(with { $0[16 + 9] = 0 } == EINVAL)
    #expect(with { $0[16 + 9] = 3 } == EINVAL)
    #expect(with { $0[16 + 11] = 99 } == EINVAL)
    // An extension that ADD may not have, and one twice.
    #expect(errno(probe.send(sa(0x1001) + [1, 0, 25, 0, 0, 0, 0, 0])) == EINVAL)
    #expect(probe.store.sas.isEmpty)
  }
}
