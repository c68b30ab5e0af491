import Foundation
import Machine

/// A network card as a person chooses it.
struct NIC: Equatable {
  var device: PCIDevice
  /// The kernel's interface; nil: the kernel does not have the card.
  var interface: String?
  var isUp = false
  /// In Mbit/s.
  var speed: Int?
  /// With prefix lengths, without link-local ones.
  var addresses: [String] = []
  /// Where its default routes lead.
  var gateways: [String] = []
  /// The far ends of ssh sessions that come by it.
  var sshPeers: [String] = []

  var address: String { device.address }

  var summary: String {
    var parts = [interface ?? "no interface", device.driver ?? "no driver", isUp ? "up" : "down"]
    if let speed { parts.append("\(speed) Mbit/s") }
    if !addresses.isEmpty { parts.append(addresses.joined(separator: " ")) }
    if !sshPeers.isEmpty { parts.append("carries the ssh session from \(sshPeers.joined(separator: ", "))") }
    return "\(address)  " + parts.joined(separator: ", ")
  }
}

/// The machine's network cards and what hangs on them.
struct Inventory {
  let nics: [NIC]

  private struct Link: Decodable {
    struct Address: Decodable {
      var local: String?
      var prefixlen: Int?
      var scope: String?
    }
    var ifname: String
    var flags: [String]?
    var addr_info: [Address]?
  }

  private struct Route: Decodable {
    var dst: String?
    var gateway: String?
    var dev: String?
  }

  init(_ files: MachineFiles, _ commands: Commands, environment: [String: String]) {
    let links: [Link] = Self.decode(commands.output("ip", "-j", "address")) ?? []
    let routes: [Route] =
      (Self.decode(commands.output("ip", "-j", "route")) ?? [])
      + (Self.decode(commands.output("ip", "-6", "-j", "route")) ?? [])
    let sessions = Self.sshSessions(commands, environment)
    nics = PCIDevice.networkDevices(files).map { device in
      var nic = NIC(device: device, interface: device.interfaces.first)
      guard let name = nic.interface else { return nic }
      nic.speed = files.integer("/sys/class/net/\(name)/speed").flatMap { $0 > 0 ? $0 : nil }
      guard let link = links.first(where: { $0.ifname == name }) else { return nic }
      nic.isUp = link.flags?.contains("LOWER_UP") ?? false
      let addresses = (link.addr_info ?? []).filter { $0.scope != "link" }
      nic.addresses = addresses.compactMap { address in
        address.local.flatMap { local in address.prefixlen.map { "\(local)/\($0)" } }
      }
      nic.gateways = routes.filter { $0.dst == "default" && $0.dev == name }.compactMap(\.gateway)
      let own = Set((link.addr_info ?? []).compactMap(\.local))
      nic.sshPeers = sessions.filter { own.contains($0.local) }.map(\.peer)
      return nic
    }
  }

  /// By PCI address (with or without the domain) or by the interface's name.
  func find(_ name: String) -> NIC? {
    nics.first { $0.address == name.lowercased() || $0.address == "0000:" + name.lowercased() || $0.interface == name }
  }

  /// This session as sshd told it, and all that the kernel knows: sudo takes the environment away.
  private static func sshSessions(_ commands: Commands, _ environment: [String: String]) -> [(
    local: String, peer: String
  )] {
    var sessions: [(local: String, peer: String)] = []
    func note(_ local: String, _ peer: String) {
      if !sessions.contains(where: { $0 == (local, peer) }) { sessions.append((local, peer)) }
    }
    let parts = (environment["SSH_CONNECTION"] ?? "").split(separator: " ").map(String.init)
    if parts.count == 4 { note(plain(parts[2]), plain(parts[0])) }
    let sockets = commands.output("ss", "-Htn", "state", "established", "sport", "=", ":22") ?? ""
    for line in sockets.split(separator: "\n") {
      let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
      guard words.count >= 4 else { continue }
      note(plain(withoutPort(words[2])), plain(withoutPort(words[3])))
    }
    return sessions
  }

  private static func withoutPort(_ text: String) -> String {
    text.lastIndex(of: ":").map { String(text[..<$0]) } ?? text
  }

  private static func plain(_ text: String) -> String {
    let bare = text.trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
    let noZone = bare.split(separator: "%").first.map(String.init) ?? bare
    return noZone.hasPrefix("::ffff:") && noZone.contains(".") ? String(noZone.dropFirst(7)) : noZone
  }

  private static func decode<Value: Decodable>(_ text: String?) -> Value? {
    text.flatMap { try? JSONDecoder().decode(Value.self, from: Data($0.utf8)) }
  }
}
