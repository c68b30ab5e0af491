import ConfigurationFiles
import Glibc
import Wire

/// Asks charon for the SAs of active and dynamic rules when they are not there, as isakmpd's connection checker does.
/// One that the peer asks for at the same moment would be there twice, so of two gateways that both begin, the one with
/// the lower address goes first.
struct CharonKeeper {
  struct Child {
    var name: String
    var peer: String
    var interval: Duration
    /// How long the other side gets to begin.
    var courtesy: Duration
    var due: ContinuousClock.Instant
  }

  private(set) var children: [Child] = []

  mutating func set(_ rules: [IKEConnection], now: ContinuousClock.Instant = .now) {
    let known = children
    children = rules.filter { $0.mode != .passive && $0.peer != nil }.map { rule in
      if let child = known.first(where: { $0.name == rule.name && $0.peer == rule.peerName }) { return child }
      let courtesy = Self.courtesy(rule)
      return Child(
        name: rule.name, peer: rule.peerName, interval: .seconds(rule.mode == .dynamic ? 10 : 30), courtesy: courtesy,
        due: now + courtesy)
    }
  }

  private static func courtesy(_ rule: IKEConnection) -> Duration {
    guard let peer = rule.peer, let local = rule.local ?? Route.source(to: peer) else { return .zero }
    return local > peer ? .seconds(3) : .zero
  }

  var due: ContinuousClock.Instant? { children.map(\.due).min() }

  var dues: [TunnelNotes.Name: ContinuousClock.Instant] {
    Dictionary(children.map { (.init(rule: $0.name, peer: $0.peer), $0.due) }, uniquingKeysWith: { $1 })
  }

  /// An SA of the peer went, or something was torn down: looked after soon.
  mutating func hurry(peer: String, now: ContinuousClock.Instant = .now) {
    for index in children.indices where children[index].peer == peer {
      children[index].due = min(children[index].due, now + .seconds(1) + children[index].courtesy)
    }
  }

  /// - Returns: what was asked for.
  mutating func check(
    _ charon: VICIConnection, held: Set<String>, now: ContinuousClock.Instant = .now
  ) throws(VICIError) -> [TunnelNotes.Name] {
    guard children.contains(where: { $0.due <= now }) else { return [] }
    var present: Set<[String]> = []
    var connecting: Set<String> = []
    try charon.stream("list-sas", VICISection(["noblock": "yes"]), event: "list-sa") { answer in
      for (peer, sa) in answer.sections {
        if sa.text("state") == "CONNECTING" { connecting.insert(peer) }
        for (key, child) in sa.section("child-sas")?.sections ?? [] {
          let state = child.text("state") ?? ""
          if !["DELETING", "DELETED", "DESTROYING"].contains(state) {
            present.insert([peer, child.text("name") ?? key])
          }
        }
      }
    }
    var asked: [TunnelNotes.Name] = []
    for index in children.indices where children[index].due <= now {
      let child = children[index]
      children[index].due = now + child.interval
      if held.contains(child.name) || connecting.contains(child.peer) || present.contains([child.peer, child.name]) {
        continue
      }
      do throws(VICIError) {
        try charon.request(
          "initiate", VICISection(["child": child.name, "ike": child.peer, "timeout": "-1", "init-limits": "no"]))
        asked.append(.init(rule: child.name, peer: child.peer))
      } catch {
        guard case .refused = error else { throw error }
      }
    }
    return asked
  }
}

enum Route {
  /// The address that this host would speak from to `address`: what the kernel's routes say. No packet is sent.
  static func source(to address: IPAddress) -> IPAddress? {
    var storage = sockaddr_storage()
    let length: socklen_t
    let bytes = address.bytes
    if address.family == .v4 {
      length = socklen_t(MemoryLayout<sockaddr_in>.size)
      withUnsafeMutableBytes(of: &storage) {
        $0.storeBytes(of: sa_family_t(AF_INET), as: sa_family_t.self)
        $0.storeBytes(of: UInt16(500).bigEndian, toByteOffset: 2, as: UInt16.self)
        for (index, byte) in bytes.enumerated() { $0[4 + index] = byte }
      }
    } else {
      length = socklen_t(MemoryLayout<sockaddr_in6>.size)
      withUnsafeMutableBytes(of: &storage) {
        $0.storeBytes(of: sa_family_t(AF_INET6), as: sa_family_t.self)
        $0.storeBytes(of: UInt16(500).bigEndian, toByteOffset: 2, as: UInt16.self)
        for (index, byte) in bytes.enumerated() { $0[8 + index] = byte }
      }
    }
    let descriptor = socket(
      address.family == .v4 ? AF_INET : AF_INET6, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let connected = withUnsafePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
    }
    guard connected == 0 else { return nil }
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let named = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    guard named == 0 else { return nil }
    return withUnsafeBytes(of: &storage) {
      IPAddress(bytes: Array(address.family == .v4 ? $0[4..<8] : $0[8..<24]))
    }
  }
}
