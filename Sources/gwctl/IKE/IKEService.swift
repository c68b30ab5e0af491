import ArgumentParser
import ConfigurationFiles
import ControlAPI
import Foundation
import IKEControl

struct IKEReload: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Has gwd read ipsec.conf, certificates and keys again, and the daemon its own settings.",
    discussion: "SAs stay.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions

  func run() throws {
    try daemon.with(
      global, charon: { try $0.request("reload-settings") },
      iked: { iked in
        try iked.run("reset", "ca")
      })
    let report: ReloadReport
    do { report = try global.client.reload() } catch {
      if case .notRunning = error { return }
      throw Failure(error)
    }
    guard report.succeeded else { throw Failure(.configuration, report.messages + ["reload refused"]) }
    for message in report.messages { Terminal.standard.write(message + "\n") }
  }
}

struct IKEDebug: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "debug", abstract: "Sets how much of a class the daemon logs, without a restart.",
    discussion: """
      charon has no command for it: a settings file is written, which strongswan.conf has to include (Debian's includes \
      strongswan.d/*.conf), and charon reads its settings again. Classes: app asn cfg chd dmn enc esp ike imc imv job \
      knl lib mgr net pts tls tnc, or all; levels: -1 to 4. `off` as the class takes the file away. iked knows only all, \
      verbose from level 1 on.
      """)

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions
  @Argument(help: "A class, all, or off.") var kind: String
  @Argument(help: "-1 silent, 0 little, 1 usual, 2 more, 3 with data, 4 with secrets.", completion: .none)
  var level: Int?
  @Option(help: "The settings file to write.", completion: .file())
  var settings = "/etc/strongswan.d/zz-gw-debug.conf"
  @Option(help: "The logger: journal, or filelog.NAME as in strongswan.conf.") var logger = "journal"

  private static let classes = [
    "app", "asn", "cfg", "chd", "dmn", "enc", "esp", "ike", "imc", "imv", "job", "knl", "lib", "mgr", "net", "pts",
    "tls", "tnc",
  ]

  func validate() throws {
    guard kind != "off" else { return }
    guard kind == "all" || Self.classes.contains(kind) else {
      throw ValidationError("no class \(kind): expected all, off, \(Self.classes.joined(separator: ", "))")
    }
    guard let level, (-1...4).contains(level) else { throw ValidationError("expected a level, -1 to 4") }
    guard logger.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "." || $0 == "-" || $0 == "_" }) else {
      throw ValidationError("\(logger) is no logger's name")
    }
  }

  func run() throws {
    try daemon.with(
      global,
      charon: { charon in
        try writeSettings()
        try charon.request("reload-settings")
      },
      iked: { iked in
        guard kind == "all" || kind == "off" else { throw Failure(.failure, ["iked has no classes: expected all"]) }
        try iked.run("log", kind == "all" && (level ?? 0) > 0 ? "verbose" : "brief")
      })
  }

  /// One file with what was set until now: a line a class.
  private func writeSettings() throws {
    if kind == "off" {
      try? FileManager.default.removeItem(atPath: settings)
      return
    }
    let sections = ["charon-systemd"] + logger.split(separator: ".").map(String.init)
    let begin = sections.map { $0 + " { " }.joined()
    let end = String(repeating: " }", count: sections.count)
    let word = kind == "all" ? "default" : kind
    var lines = (try? String(contentsOfFile: settings, encoding: .utf8))?.components(separatedBy: "\n") ?? []
    lines = kind == "all" ? [] : lines.filter { $0.hasPrefix(begin) && !$0.hasPrefix("\(begin)\(word) =") }
    lines.append("\(begin)\(word) = \(level ?? 1)\(end)")
    do {
      try ("# gwctl ike debug\n" + lines.joined(separator: "\n") + "\n")
        .write(toFile: settings, atomically: true, encoding: .utf8)
    } catch {
      throw Failure(.failure, ["\(settings): \(error.localizedDescription)"])
    }
  }
}

struct IKEMonitor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "monitor", abstract: "Follows the daemon's log and its SAs' coming and going, until interrupted.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions

  func run() throws {
    try daemon.with(
      global,
      charon: { charon in
        for event in ["log", "ike-updown", "child-updown", "ike-rekey", "child-rekey"] { try charon.register(event) }
        while true {
          guard let event = try charon.nextEvent(until: .now + .seconds(3600)) else { continue }
          Terminal.standard.write(Self.line(event) + "\n")
          Terminal.standard.flush()
        }
      },
      iked: { iked in
        let words: [String] = [iked.program, "-s", iked.socketPath, "monitor"]
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        arguments.append(nil)
        execv(iked.program, &arguments)
        throw Failure(.unavailable, ["\(iked.program): \(String(cString: strerror(errno)))"])
      })
  }

  static func line(_ event: VICIConnection.Event) -> String {
    if event.name == "log" {
      return "\(event.message.text("group") ?? "") \(event.message.text("msg") ?? "")"
    }
    let isUp = event.message.text("up") == "yes"
    let what = event.message.sections.map { name, sa in
      let children = sa.section("child-sas")?.sections.map { $0.section.text("name") ?? $0.name } ?? []
      return ([name] + children).joined(separator: " ")
    }
    let verb = event.name.hasSuffix("rekey") ? "rekeyed" : isUp ? "up" : "down"
    return "\(event.name): \(what.joined(separator: ", ")) \(verb)"
  }
}

struct IKECaptureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "capture", abstract: "Has gwd write IKE's messages to a pcap file, from start to stop.",
    discussion: """
      UDP 500, and 4500 with the non-ESP marker, on every port that has a TAP. Neither Debian's charon nor iked gives \
      away the keys of IKE SAs, so messages after the first two are encrypted in it.
      """)

  enum Action: String, ExpressibleByArgument, CaseIterable { case start, stop }

  @OptionGroup var global: GlobalOptions
  @Argument(help: "start or stop.") var action: Action
  @Argument(help: "The file (default: ike.pcap in gwd's run directory); for root only.", completion: .file())
  var file: String?

  func run() throws {
    let path = file.map { $0.hasPrefix("/") ? $0 : FileManager.default.currentDirectoryPath + "/" + $0 }
    let before = try global.ask { client throws(ControlClientError) in try client.keyDaemon() }
    let status = try global.ask { client throws(ControlClientError) in
      try client.keyDaemon(KeyDaemonRequest(action == .start ? .capture : .endCapture, path: path))
    }
    if let file = status.capture ?? before.capture { Terminal.standard.write("\(file)\n") }
  }
}

struct IKEPrintConfig: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "print-config",
    abstract: "Prints the ike rules of an ipsec.conf as a swanctl.conf or an iked.conf.",
    discussion: "Rules that the daemon cannot carry out are named, and make the exit status 1.")

  enum Form: String, ExpressibleByArgument, CaseIterable { case swanctl, iked }

  @Argument(help: "swanctl or iked.") var form: Form
  @OptionGroup var options: RulesOptions
  @Option(help: "The version of IKE, for swanctl.") var version = KeyDaemon.Version.v2

  func run() throws {
    let rules: RulesFile
    do { rules = try RulesFile(path: options.file, macros: options.macros.compactMap { Macro(argument: $0) }) } catch {
      throw RulesOptions.failure(error)
    }
    let connections: [IKEConnection]
    do { connections = try rules.conf.connections() } catch { throw RulesOptions.failure(error) }
    let refusals: [IKERefusal]
    switch form {
    case .swanctl:
      let configuration = CharonConfiguration(connections, version: version, hostname: IKEHost.name)
      Terminal.standard.write(configuration.swanctl(showsKeys: options.keys))
      refusals = configuration.refusals
    case .iked:
      let configuration = IkedConfiguration(connections, hostname: IKEHost.name)
      Terminal.standard.write(configuration.text(showsKeys: options.keys))
      refusals = configuration.refusals
    }
    guard refusals.isEmpty else {
      throw Failure(.failure, refusals.map { "\($0.connection): \($0.reason)" })
    }
  }
}

extension KeyDaemon.Version: ExpressibleByArgument {}

struct IKEQuit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quit", abstract: "Ends the key daemon, which tells its peers first.",
    discussion: "Under systemd it may be started again: systemctl stop strongswan (openiked) is for good.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var daemon: KeyDaemonOptions

  func run() throws {
    try daemon.with(global, charon: { try end($0.daemonProcess) }, iked: { try end(try parent(of: try $0.process())) })
  }

  private func end(_ process: pid_t?) throws {
    guard let process, process > 1 else { throw Failure(.failure, ["its process is not known"]) }
    guard kill(process, SIGTERM) == 0 else {
      throw Failure(
        errno == EPERM ? .noPermission : .failure, ["process \(process): \(String(cString: strerror(errno)))"])
    }
  }

  /// The process that listens is a child of iked's.
  private func parent(of process: pid_t?) throws -> pid_t? {
    guard let process, let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("PPid:") })
    else { return nil }
    let parent = pid_t(line.dropFirst(5).trimmingCharacters(in: .whitespaces)) ?? 0
    let name = try? String(contentsOfFile: "/proc/\(parent)/comm", encoding: .utf8)
    return parent > 1 && name?.hasPrefix("iked") == true ? parent : process
  }
}
