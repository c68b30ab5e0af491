import CLinux
import ConfigurationFiles
import Foundation

/// The agent's thread: one turn after the other, each ends by waiting for an order, the daemon or the clock.
final class IKEAgentThread {
  private struct Charon {
    var connection: VICIConnection
    var loader = CharonLoader()
    var keeper = CharonKeeper()
    var notes = TunnelNotes()
    var applied: UInt64 = 0
  }

  private let agent: IKEAgent
  private var charon: Charon?
  private var charonPath = ""
  private var pause = IKEAgentThread.firstPause
  private var isWaiting = false
  /// The process that has been given what iked.conf says, and that text.
  private var iked: (process: pid_t, text: String)?
  /// The file as it was written last.
  private var ikedFile: (path: String, text: String)?
  private let hostname = IKEHost.name
  private static let firstPause = Duration.milliseconds(250)
  private static let longestPause = Duration.seconds(4)
  /// A daemon that takes longer for all of an order is connected to anew; orders and the end are looked for after so many
  /// events.
  private static let longestTurn = Duration.seconds(120)
  private static let eventsATurn = 64
  /// Of a daemon's words in the log.
  private static let longestName = 400

  init(_ agent: IKEAgent) { self.agent = agent }

  func run() {
    while true {
      let order = agent.order
      if order.isStopping { break }
      switch order.settings.daemon.kind {
      case .charon: charonTurn(order)
      case .iked: ikedTurn(order)
      case .none:
        charon = nil
        agent.report(
          generation: order.generation, waitingFor: nil,
          connections: order.rules.map {
            IKEConnectionStatus($0, .failed, reason: "gateway.yaml says ike: {daemon: none}")
          })
        wait(nil)
      }
    }
    agent.finish()
  }

  // MARK: charon

  private func charonTurn(_ order: IKEAgent.Order) {
    iked = nil
    if charonPath != order.settings.daemon.vici {
      charonPath = order.settings.daemon.vici
      charon = nil
    }
    if charon == nil && order.rules.isEmpty && !order.watches {
      agent.report(generation: order.generation, waitingFor: nil, connections: [], problems: [])
      return wait(nil)
    }
    do throws(VICIError) {
      if charon == nil { try connect(order) }
      charon?.connection.turnEnds = .now + Self.longestTurn
      if charon?.applied != order.generation { try apply(order) }
      if var session = charon {
        for name in try session.keeper.check(session.connection, held: order.held) {
          agent.say(.info, "ike: asked charon for \(name.rule)")
          session.notes.news.asked.insert(name)
        }
        charon = session
      }
      try takeEvents()
      if var notes = charon?.notes {
        notes.due = charon?.keeper.dues ?? [:]
        agent.note(notes)
        charon?.notes.news = TunnelNews()
      }
      // Some may have come with answers, which the descriptor does not tell.
      if charon?.connection.hasEvent != true { wait(charon?.keeper.due, charon?.connection.descriptor) }
    } catch {
      lost(error, order)
    }
  }

  private func connect(_ order: IKEAgent.Order) throws(VICIError) {
    let connection = try VICIConnection(path: order.settings.daemon.vici, interrupt: agent.interrupt)
    try connection.register("ike-updown")
    try connection.register("child-updown")
    try connection.register("log")
    var session = Charon(connection: connection)
    try connection.stream("list-conns", event: "list-conn") { answer in
      for (name, section) in answer.sections { session.notes.noteConnection(name, section) }
    }
    // What is there already, none of it by an event.
    try connection.stream("list-sas", VICISection(["noblock": "yes"]), event: "list-sa") { answer in
      for (name, sa) in answer.sections { session.notes.noteChildren(of: name, sa) }
    }
    charon = session
    isWaiting = false
    agent.say(.info, "ike: charon answers at \(order.settings.daemon.vici)")
  }

  /// Tries again later, less and less often.
  private func lost(_ error: VICIError, _ order: IKEAgent.Order) {
    // The end is no loss.
    if agent.order.isStopping { return }
    let wasThere = charon != nil
    charon = nil
    agent.note(TunnelNotes())
    let reason = error.description
    if wasThere { agent.say(.notice, "ike: \(reason)") }
    if !isWaiting && !order.rules.isEmpty {
      isWaiting = true
      agent.say(.notice, "ike: \(order.rules.count) rules wait for charon at \(order.settings.daemon.vici)")
    }
    agent.report(
      generation: order.generation, waitingFor: order.rules.isEmpty ? nil : reason,
      connections: order.rules.map { IKEConnectionStatus($0, .waiting) })
    wait(.now + pause)
    pause = min(pause * 2, Self.longestPause)
  }

  private func apply(_ order: IKEAgent.Order) throws(VICIError) {
    let credentials = Credentials(folder: order.settings.daemon.credentials)
    let wanted = CharonConfiguration(
      order.rules, version: order.settings.daemon.version, hostname: hostname,
      publicKey: { credentials.publicKey(of: $0) })
    guard var session = charon else { return }
    // Certificates are none of a pre-shared key's business.
    let needsCredentials = order.rules.contains { !$0.isPSK }
    let outcome = try session.loader.apply(
      wanted, needsCredentials ? credentials : .none, to: session.connection)
    var problems = outcome.problems + (needsCredentials ? credentials.problems : [])
    if needsCredentials && credentials.privateKeys.isEmpty {
      problems.append("no private key in \(order.settings.daemon.credentials)/private")
    }
    let refused = Dictionary(wanted.refusals.map { ($0.connection, $0.reason) }, uniquingKeysWith: { $1 })
    let statuses = order.rules.map { rule in
      if let reason = refused[rule.name] ?? outcome.refused[rule.peerName] {
        return IKEConnectionStatus(rule, .failed, reason: reason)
      }
      return IKEConnectionStatus(rule, .loaded)
    }
    let loaded = Set(statuses.filter { $0.state == .loaded }.map(\.name))
    session.keeper.set(order.rules.filter { loaded.contains($0.name) })
    session.notes.rules = Set(order.rules.map { TunnelNotes.Name(rule: $0.name, peer: $0.peerName) })
    session.applied = order.generation
    charon = session
    pause = Self.firstPause
    say(statuses, problems, outcome)
    agent.report(generation: order.generation, waitingFor: nil, connections: statuses, problems: problems)
  }

  private func say(_ statuses: [IKEConnectionStatus], _ problems: [String], _ outcome: CharonLoader.Outcome) {
    for status in statuses where status.state == .failed {
      agent.say(.error, "\(status.file): \(status.line): \(status.name): \(status.reason ?? "")")
    }
    for problem in problems { agent.say(.warning, "ike: \(problem)") }
    if !outcome.loaded.isEmpty { agent.say(.info, "ike: charon has \(outcome.loaded.joined(separator: ", "))") }
    if !outcome.removed.isEmpty { agent.say(.info, "ike: taken away: \(outcome.removed.joined(separator: ", "))") }
  }

  private func takeEvents() throws(VICIError) {
    for _ in 0..<Self.eventsATurn {
      guard var session = charon, let event = try session.connection.nextEvent(until: .now) else { return }
      if event.name == "child-updown", event.message.text("up") == "yes" {
        for name in event.message.sections.map(\.name) where session.notes.authentications[name] == nil {
          var heard: [(name: String, section: VICISection)] = []
          try session.connection.stream("list-conns", VICISection(["ike": name]), event: "list-conn") {
            heard += $0.sections
          }
          for (name, section) in heard { session.notes.noteConnection(name, section) }
        }
      }
      session.notes.take(event)
      charon = session
      guard event.name != "log" else { continue }
      let isUp = event.message.text("up") == "yes"
      for (peer, sa) in event.message.sections where peer != "up" {
        if !isUp { session.keeper.hurry(peer: peer) }
        let children = sa.section("child-sas")?.sections.map { $0.section.text("name") ?? $0.name } ?? []
        let what = event.name == "child-updown" ? children.joined(separator: ", ") : peer
        agent.say(.info, "ike: \(what.prefix(Self.longestName)) is \(isUp ? "up" : "down")")
      }
      charon = session
    }
    // There may be no end of them: the log and this core are not charon's alone.
    wait(.now + .milliseconds(10))
  }

  // MARK: iked

  private func ikedTurn(_ order: IKEAgent.Order) {
    charon = nil
    let configuration = IkedConfiguration(order.rules, hostname: hostname)
    let refused = Dictionary(configuration.refusals.map { ($0.connection, $0.reason) }, uniquingKeysWith: { $1 })
    func statuses(_ state: IKEConnectionStatus.State, _ reason: String? = nil) -> [IKEConnectionStatus] {
      order.rules.map { rule in
        refused[rule.name].map { IKEConnectionStatus(rule, .failed, reason: $0) }
          ?? IKEConnectionStatus(rule, state, reason: reason)
      }
    }
    let text = configuration.text(showsKeys: true)
    let ikectl = Ikectl(socketPath: order.settings.daemon.control, interrupt: agent.interrupt)
    do {
      try writeIkedFile(text, order.settings.ikedFile)
      let process = try ikectl.process() ?? 0
      if iked?.process != process || iked?.text != text {
        // iked ends the SAs of policies that are gone. A file without any it refuses.
        if !configuration.policies.isEmpty {
          try ikectl.run("load", order.settings.ikedFile)
        } else if iked?.process == process {
          try ikectl.run("reset", "policy")
          try ikectl.run("reset", "sa")
        }
        iked = (process, text)
        isWaiting = false
        for status in statuses(.loaded) where status.state == .failed {
          agent.say(.error, "\(status.file): \(status.line): \(status.name): \(status.reason ?? "")")
        }
        agent.say(.info, "ike: iked has \(order.settings.ikedFile), policies: \(configuration.policies.count)")
      }
      agent.report(generation: order.generation, waitingFor: nil, connections: statuses(.loaded), problems: [])
    } catch {
      if agent.order.isStopping { return }
      iked = nil
      if !isWaiting && !order.rules.isEmpty {
        isWaiting = true
        agent.say(.notice, "ike: \(order.rules.count) rules wait for iked: \(error)")
      }
      agent.report(generation: order.generation, waitingFor: "\(error)", connections: statuses(.waiting))
    }
    wait(.now + .seconds(2))
  }

  /// Where it is not there as it should be.
  private func writeIkedFile(_ text: String, _ path: String) throws(PrivateFile.Failure) {
    if let ikedFile, ikedFile == (path, text), access(path, F_OK) == 0 { return }
    try PrivateFile.write(text, to: path)
    ikedFile = (path, text)
  }

  // MARK: Waiting

  /// For an order, the descriptor, or the clock.
  private func wait(_ deadline: ContinuousClock.Instant?, _ descriptor: Int32? = nil) {
    var entries = [pollfd(fd: agent.wakeDescriptor, events: Int16(POLLIN), revents: 0)]
    if let descriptor { entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
    _ = poll(&entries, nfds_t(entries.count), LocalStream.milliseconds(until: deadline))
    if entries[0].revents != 0 {
      var count: UInt64 = 0
      _ = read(agent.wakeDescriptor, &count, 8)
    }
  }
}

extension Credentials {
  static let none = Credentials(folder: "/nonexistent")
}
