import Engines
import IPsec
import KeyManagement
import Wire

@testable import IKEControl

/// A database that the key sockets change for real.
private func database() -> SecurityDatabase {
  let limits = DatabaseLimits(sas: 64, policies: 64, larvalSAs: 8, acquires: 8)
  return SecurityDatabase(engine: OpenSSLEngine(), workers: 1, limits: limits, reclaimer: ImmediateReclaimer(), now: 1)
}

/// How much stands, for what a refusal must leave alone.
private func count(_ store: SecurityDatabase) -> [Int] { [store.saCount(), store.policyCount()] }

/// Datagrams of one client, in order; then it goes.
private func converse(
  _ store: SecurityDatabase, _ session: any KeySession, _ input: FuzzInput,
  isRefusal: ([UInt8]) -> Bool, replies: () -> [[UInt8]]
) {
  var input = input
  for datagram in input.blocks(atMost: 32) {
    let before = count(store)
    datagram.withUnsafeBytes { session.receive($0) }
    while session.resume() {}
    let answers = replies()
    if answers.count == 1, isRefusal(answers[0]) { require(count(store) == before, "a refusal changed the database") }
  }
  session.close()
}

/// PF_KEYv2; the first datagram may be a greeting that chooses the dialect. Input: blocks.
enum PFKeyTarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    let store = database()
    let service = PFKeyService(store: store)
    var replies: [[UInt8]] = []
    let session = service.makeSession(owner: .pfkey(1), origin: 1) { datagram, kind in
      if kind == .reply { replies.append(datagram) }
    }
    converse(store, session, input, isRefusal: { $0.count > 2 && $0[2] != 0 }) {
      defer { replies = [] }
      return replies
    }
    service.shutDown()
  }
}

/// NETLINK_XFRM. Input: blocks.
enum XFRMTarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    let store = database()
    let service = XFRMService(store: store)
    var replies: [[UInt8]] = []
    let session = service.makeSession(owner: .xfrm(1), origin: 1) { datagram, kind in
      if kind == .reply { replies.append(datagram) }
    }
    // One datagram may hold several requests, of which only the last was refused: no promise to check.
    converse(store, session, input, isRefusal: { _ in false }) {
      defer { replies = [] }
      return replies
    }
    service.shutDown()
  }
}

/// Packets from whoever serves the VICI socket, and the report made of them. What was read is written back as it was.
enum VICITarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    let bytes = Array(input.rest)
    guard let packet = try? VICIPacket(bytes) else { return }
    if case .event(let name, let section) = packet {
      for (name, section) in section.sections {
        _ = IKEReport.Connection(name: name, section)
        _ = IKEReport.IKESA(name: name, section)
      }
      _ = IKEReport.IKESA(name: name, section)
    }
    // Names that are not UTF-8 come back longer.
    if let framed = try? packet.framed(), let again = try? VICIPacket(Array(framed.bytes.dropFirst(4))) {
      require(again == packet, "written and read, it is another")
    }
  }
}
