import ConfigurationFiles
import ControlAPI
import Foundation
import IKEControl
import IPsec
import Threads

/// USR1: the whole state in a file for people, as isakmpd wrote isakmpd.report. Keys are not in it.
extension Gateway {
  /// Control thread. The key daemon is asked on a thread of its own, and the file is there once it has answered.
  func writeReport() {
    guard !isReporting else { return logger.notice("a report is being written already") }
    reporting?.join()
    isReporting = true
    let path = paths.reportFile
    let sections = reportSections
    let (status, interrupt, logger) = (keyDaemonStatus, interrupt, logger)
    let body: @Sendable () -> Void = { [weak self] in
      var text = "gwd \(ProductVersion.current), \(Date().formatted(.iso8601))\n"
      for section in sections + Self.keyDaemonSections(status, interrupt) {
        text += "\n== \(section.title) ==\n" + (section.text.isEmpty ? "none\n" : section.text)
      }
      do {
        try PrivateFile.write(text, to: path)
        logger.notice("report written to \(path)")
      } catch {
        logger.error("report: \(error)")
      }
      self?.later { $0.isReporting = false }
    }
    do { reporting = try JoinableThread(name: "gw-report", body: body) } catch {
      isReporting = false
      logger.error("report: \(error)")
    }
  }

  typealias ReportSection = (title: String, text: String)

  private var reportSections: [ReportSection] {
    let printer = IPsecctlPrinter(options: PrintOptions(verbosity: 2))
    let policies = database.policies()
    let records = database.records()
    return [
      ("Gateway", gatewayText), ("Ports", lines(portStatuses.map(Self.text))),
      ("Workers", lines(workerStatuses.map(Self.text))),
      ("Drops", lines(dropCounts.filter { $0.packets > 0 }.map { "\($0.stage) \($0.reason): \($0.packets)" })),
      (
        "Routes",
        lines(
          routeStatuses.map {
            "\($0.destination) \($0.gateway.map { "via \($0) " } ?? "")port \($0.port) (\($0.origin))"
          })
      ),
      (
        "Neighbors",
        lines(neighborStatuses.map { "\($0.address) port \($0.port) \($0.mac.map { "\($0)" } ?? "-") \($0.state)" })
      ),
      ("Flows: \(policies.count)", printer.flows(policies)), ("SAs: \(records.count)", printer.sas(records)),
      ("Timers", lines(records.map { Self.timers($0, now: UInt64(Date().timeIntervalSince1970)) })),
      (
        "Key daemons' connections",
        lines((keySockets?.daemons ?? []).map { "\($0.owner), process \($0.process)" })
      ),
    ]
  }

  private func lines(_ lines: [String]) -> String { lines.map { $0 + "\n" }.joined() }

  private var gatewayText: String {
    let status = status
    var text = "process \(status.processID), up \(Int(status.uptimeSeconds)) s, \(status.state.rawValue)\n"
    text += "configuration \(paths.configuration), rules \(configuration.ipsec ?? "none")\n"
    if let reload = status.lastReload {
      let when = Date(timeIntervalSince1970: reload.atSeconds).formatted(.iso8601)
      text += "last reload \(when): \(reload.succeeded ? "done" : "refused")\n"
      text += lines(reload.messages.map { "  \($0)" })
    }
    for pool in status.mempools {
      text += "mempool \(pool.name): \(pool.availableBuffers) of \(pool.sizeBuffers) buffers free\n"
    }
    return text
  }

  private static func text(_ port: PortStatus) -> String {
    "\(port.name): \(port.device) \(port.mac) mtu \(port.mtuBytes) link \(port.linkUp ? "up" : "down") "
      + "\(port.addresses.joined(separator: " ")) rx \(port.rxPackets) tx \(port.txPackets) "
      + "missed \(port.rxMissed) errors \(port.rxErrors)/\(port.txErrors)"
  }

  private static func text(_ worker: WorkerStatus) -> String {
    "worker \(worker.id) on core \(worker.core): \(worker.queues.joined(separator: " ")) rx \(worker.rxPackets) "
      + "tx \(worker.txPackets) dropped \(worker.dropPackets)"
  }

  /// What is left of an SA's lifetimes.
  private static func timers(_ record: SARecord, now: UInt64) -> String {
    func left(_ limit: UInt64, from start: UInt64) -> String? {
      guard limit > 0, limit < .max else { return nil }
      guard start > 0 else { return "\(limit) s once used" }
      let past = now > start ? now - start : 0
      return limit > past ? "\(limit - past) s" : "no time"
    }
    func rest(_ limit: UInt64, _ used: UInt64, _ unit: String) -> String? {
      limit == 0 || limit == .max ? nil : "\(limit - min(limit, used)) \(unit)"
    }
    func text(_ name: String, _ lifetime: Lifetime) -> String? {
      let parts = [
        left(lifetime.addTime, from: record.usage.added), left(lifetime.useTime, from: record.usage.firstUsed),
        rest(lifetime.bytes, record.usage.bytes, "bytes"),
        rest(lifetime.packets, record.usage.packets, "packets"),
      ].compactMap(\.self)
      return parts.isEmpty ? nil : "\(name) in \(parts.joined(separator: ", "))"
    }
    let limits = [text("soft", record.parameters.soft), text("hard", record.parameters.hard)].compactMap(\.self)
    return "\(record.parameters.identifier): \(limits.isEmpty ? "no limits" : limits.joined(separator: "; "))"
  }

  /// Not on the control thread: the daemon may take its time.
  private static func keyDaemonSections(_ status: KeyDaemonStatus, _ interrupt: Interrupt) -> [ReportSection] {
    let rules = status.connections.map { rule in
      let remark = rule.remark()
      return "\(rule.name) (\(rule.peer)), \(rule.mode), \(rule.state.rawValue)\(remark.isEmpty ? "" : ": ")\(remark)\n"
    }.joined()
    let waiting = status.waitingFor.map { "waiting: \($0)\n" } ?? ""
    let problems = status.problems.map { "warning: \($0)\n" }.joined()
    var daemon = ""
    do {
      switch status.daemon {
      case .charon:
        let charon = try VICIConnection(path: status.socketPath, timeoutSeconds: 5, interrupt: interrupt)
        daemon = try IKEReport(charon: charon).text
      case .iked: daemon = try IKEReport(iked: Ikectl(socketPath: status.socketPath, interrupt: interrupt)).text
      case .none: break
      }
    } catch {
      daemon = "\(error)\n"
    }
    return [
      ("Rules of ike: \(status.connections.count)", waiting + problems + rules),
      ("Key daemon: \(status.daemon.rawValue)", daemon),
    ]
  }
}
