import ArgumentParser
import ConfigurationFiles
import ControlAPI
import IKEControl

struct IKEConnect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "connect", abstract: "Asks for the SAs of a rule, or of all rules of a peer, and waits for them.",
    discussion: "What teardown took down is asked for again by gwd too. iked asks for all active policies at once.",
    aliases: ["initiate"])

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Argument(help: "A rule (from-…-to-…) or a peer (peer-…), as gwctl ike report names them.") var name: String
  @Option(help: "Seconds to wait; 0: do not.") var timeout = 30

  func run() throws {
    try Holding.tell(.release, [name], global)
    try daemon.with(
      global,
      charon: { charon in
        switch try CharonTarget.find(name, charon) {
        case .child(let child, let ike): try initiate(charon, child, ike)
        case .ike(let ike):
          let children = try IKEReport(charon: charon).connections.first { $0.name == ike }?.children ?? []
          for child in children { try initiate(charon, child.name, ike) }
        }
      }, iked: { try $0.run("active") })
  }

  private func initiate(_ charon: VICIConnection, _ child: String, _ ike: String) throws {
    let isUp = try IKEReport(charon: charon).sas.contains { sa in
      sa.name == ike && sa.children.contains { $0.name == child && $0.state == "INSTALLED" }
    }
    if isUp { return Terminal.standard.write("\(child) is up already\n") }
    var message = VICISection(["child": child, "ike": ike, "loglevel": "0"])
    message.set("timeout", timeout > 0 ? "\(timeout * 1000)" : "-1")
    if let reason = try charon.refusal("initiate", message, timeoutSeconds: Double(timeout) + 10) {
      throw Failure(
        .failure, ["\(child): \(reason); charon's log says why (journalctl -u strongswan, gwctl ike monitor)"])
    }
    if timeout > 0 { Terminal.standard.write("\(child) is up\n") }
  }
}

struct IKETeardown: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "teardown", abstract: "Ends the SAs of a rule, of a peer, or all.",
    discussion: """
      gwd does not ask for an active rule again until connect. Its policies stay, so that nothing leaves in clear: a \
      packet for the tunnel has charon ask for it anew. gwctl delete takes a rule away altogether.
      """,
    aliases: ["terminate"])

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Argument(help: "A rule or a peer.") var name: String?
  @Flag(help: "Every SA of the daemon, whoever asked for it.") var all = false
  @Flag(help: "Without waiting for the peer's answer.") var force = false

  func validate() throws {
    if (name == nil) != all { throw ValidationError("expected a name, or --all") }
  }

  func run() throws {
    try Holding.tell(.hold, name.map { [$0] }, global)
    try daemon.with(
      global,
      charon: { charon in
        guard let name else { return try all(charon) }
        try terminate(charon, try CharonTarget.find(name, charon).message)
      },
      iked: { iked in
        guard let name else { return _ = try iked.run("reset", "sa") }
        let sas = try IKEReport(iked: iked).sas.filter { sa in
          sa.name == name || sa.remoteID == name || sa.remoteHost == name || sa.children.contains { $0.name == name }
        }
        guard !sas.isEmpty else { throw Failure(.failure, ["iked has no SA of \(name)"]) }
        for id in Set(sas.compactMap(\.remoteID)) { try iked.run("reset", "id", id) }
      })
  }

  private func all(_ charon: VICIConnection) throws {
    for sa in try IKEReport(charon: charon).sas { try terminate(charon, VICISection(["ike-id": sa.id])) }
  }

  private func terminate(_ charon: VICIConnection, _ what: VICISection) throws {
    var message = what
    message.set("timeout", "5000")
    message.set("force", force ? "yes" : "no")
    if let reason = try charon.refusal("terminate", message, timeoutSeconds: 15) {
      // A peer that does not answer: charon goes on by itself.
      guard !reason.contains("no matching SAs") else { throw Failure(.failure, ["\(name ?? "SA"): there is no SA"]) }
      if !force {
        throw Failure(.failure, ["\(name ?? "SA"): \(reason); --force does not wait for the peer"])
      }
    }
  }
}

extension VICIConnection {
  /// Why charon did not do it; nil: it did.
  func refusal(_ command: String, _ message: VICISection, timeoutSeconds: Double) throws(VICIError) -> String? {
    do throws(VICIError) {
      try request(command, message, timeoutSeconds: timeoutSeconds)
      return nil
    } catch {
      guard case .refused(_, let reason) = error else { throw error }
      return reason
    }
  }
}

/// Tells gwd that a rule is to stay down, or not; rules that are not gwd's are none of its business.
enum Holding {
  static func tell(_ action: KeyDaemonRequest.Action, _ names: [String]?, _ global: GlobalOptions) throws(Failure) {
    do throws(ControlClientError) {
      _ = try ControlClient(socketPath: global.socketPath, timeoutSeconds: 10)
        .keyDaemon(KeyDaemonRequest(action, names: names))
    } catch {
      switch error {
      case .notRunning: return
      case .refused(let refusal) where refusal.kind == .notFound: return
      default: throw Failure(error)
      }
    }
  }
}

struct IKEDelete: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Ends one SA by its SPI or number.",
    discussion: "isakmpd's `d cookies`. What it carried is negotiated anew where the rule is active.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Argument(help: "An IKE SA's or child SA's SPI in hex, or #NUMBER, as gwctl ike report shows them.")
  var id: [String]

  func run() throws {
    for id in id {
      try daemon.with(
        global, charon: { try delete(id, $0) },
        iked: { _ in
          throw Failure(.failure, ["iked ends SAs by their peer's identity only: gwctl ike teardown NAME"])
        })
    }
  }

  private func delete(_ id: String, _ charon: VICIConnection) throws {
    let wanted = id.lowercased().replacing("0x", with: "")
    for sa in try IKEReport(charon: charon).sas {
      if "#\(sa.id)" == id || sa.initiatorSPI == wanted || sa.responderSPI == wanted {
        try charon.request("terminate", VICISection(["ike-id": sa.id, "timeout": "-1"]))
        return
      }
      for child in sa.children where "#\(child.id)" == id || child.spiIn == wanted || child.spiOut == wanted {
        try charon.request("terminate", VICISection(["child-id": child.id, "timeout": "-1"]))
        return
      }
    }
    throw Failure(.failure, ["charon has no SA \(id); gwctl ike sas lists them"])
  }
}

struct IKERekey: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rekey", abstract: "Has a child SA (a rule's name) or an IKE SA (a peer's) replaced by a new one, now."
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Argument(help: "A rule or a peer.") var name: String
  @Flag(help: "Authenticate anew, too; for a peer.") var reauthenticate = false

  func run() throws {
    try daemon.with(
      global,
      charon: { charon in
        var message = try CharonTarget.find(name, charon).message
        if reauthenticate { message.set("reauth", "yes") }
        let answer = try charon.request("rekey", message)
        guard answer.text("matches") != "0" else { throw Failure(.failure, ["\(name): there is no SA"]) }
      },
      iked: { _ in
        throw Failure(
          .failure, ["iked rekeys only when a lifetime ends; gwctl ike teardown NAME and connect make new SAs"])
      })
  }
}
